"""The flood of webhooks is as the row describes it, and its checks can fail."""

import json
import random
import time
from collections import Counter
from uuid import UUID

import pytest

from ingress.http.problems import Problem
from ingress.webhooks.handlers import verify
from sandbox.system import WEBHOOK_SECRET
from tests.faults.rows.webhooks import FORGERIES, Forgery, confirmed_otherwise, faults_of, flood

BODIES = [
    json.dumps({"id": f"evt_{number}", "data": {"object": {"amount_total": 10_000}}}, indent=2) for number in range(3)
]
BOOKING = UUID(int=1)


def test_true_webhooks_are_taken_and_come_twice_and_newest_first() -> None:
    sent = list(flood(BODIES, 2, random.Random(1)))

    true = [delivery.body for delivery in sent if not delivery.forged]
    newest_first = [body for body in reversed(BODIES) for _ in range(2)]
    assert true == newest_first * 2
    assert sum(delivery.forged for delivery in sent) == len(true)
    for delivery in sent:
        if not delivery.forged:
            verify(delivery.body.encode(), delivery.signature, [WEBHOOK_SECRET])


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.__name__)
def test_each_forgery_is_one(forgery: Forgery) -> None:
    body, signature = forgery(BODIES[0], BODIES[1], int(time.time()))

    with pytest.raises(Problem):
        verify(body.encode(), signature, [WEBHOOK_SECRET])


def test_a_forged_webhook_that_is_taken_is_found_and_a_true_one_that_is_not() -> None:
    assert faults_of(Counter({(True, 400): 2, (False, 200): 3}), 5) == []
    assert len(faults_of(Counter({(True, 200): 1, (False, 200): 1}), 2)) == 1
    assert len(faults_of(Counter({(True, 503): 1}), 1)) == 1
    assert len(faults_of(Counter({(False, 400): 1}), 1)) == 1
    assert len(faults_of(Counter({(False, 200): 1}), 2)) == 1


def test_a_booking_that_is_confirmed_twice_or_never_is_found() -> None:
    confirmed = ("booking.confirmed.v1", {"booking_id": str(BOOKING)})

    assert confirmed_otherwise([BOOKING], [confirmed]) == []
    assert confirmed_otherwise([BOOKING], [confirmed, confirmed])
    assert confirmed_otherwise([BOOKING], [("booking.reserved.v1", {"booking_id": str(BOOKING)})])
