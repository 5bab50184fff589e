"""The stand-in reads its books by their indexes, so that it also answers in time after a thousand payments.

SQLite counts the steps of its statements, so that nothing here depends on the speed of a machine.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.stripe.books import Books

FEW, MANY = 50, 400
"""Payments and webhooks in two sets of books; a read that looks at all for each takes 64 times the steps."""


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Books]:
    books = books_of(tmp_path / "few", FEW)
    yield books
    books.close()


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Books]:
    books = books_of(tmp_path / "many", MANY)
    yield books
    books.close()


def books_of(folder: Path, count: int) -> Books:
    """Return books with so many payments, a session each, and as many webhooks that were delivered."""
    books = Books(folder)
    with books.transaction():
        for number in range(count):
            payment = {"object": "payment_intent", "id": f"pi_{number}", "status": "succeeded", "currency": "eur"}
            books.put({**payment, "metadata": {}})
            books.put({"object": "checkout.session", "id": f"cs_{number}", "payment_intent": f"pi_{number}"})
            books.move_money("capture", payment, 100_00, 0.0)
            books.send({"id": f"evt_{number}", "type": "refund.created"}, state="pending", at=0.0, first_at=0.0)
        for delivery in books.due_deliveries(1.0, count):
            books.delivered(delivery, "200", 1.0)
    return books


def steps_of(books: Books, read: Callable[[Books], Any]) -> int:
    """Return how many steps of SQLite's machine a read takes."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    books._db.set_progress_handler(count, 1)
    read(books)
    books._db.set_progress_handler(None, 1)
    return steps


def test_the_ledger_takes_as_many_steps_for_each_payment_however_many_there_are(few: Books, many: Books) -> None:
    def of_a_payment(books: Books, count: int) -> float:
        assert len(books.balances()) == count
        return steps_of(books, Books.balances) / count

    assert of_a_payment(many, MANY) < 1.5 * of_a_payment(few, FEW)


@pytest.mark.parametrize(
    "read",
    [
        lambda books: books.due_deliveries(2.0, 16),
        lambda books: books.next_delivery_at(0.0),
        lambda books: books.undelivered("evt_1"),
        lambda books: books.of_payment("refund", "pi_1"),
        lambda books: books.balance("pi_1"),
    ],
    ids=[
        "webhooks that are due",
        "the next webhook",
        "an event's webhooks",
        "a payment's refunds",
        "a payment's money",
    ],
)
def test_a_read_of_one_takes_as_many_steps_however_many_there_are(
    few: Books, many: Books, read: Callable[[Books], Any]
) -> None:
    assert steps_of(many, read) < 1.5 * steps_of(few, read)
