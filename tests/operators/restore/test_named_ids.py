"""The ids that the log names, of which a restored database must not give any away again."""

from typing import Any
from uuid import UUID

import pytest

from operators.restore.backup_check import NamedIds
from storage.operator_log import id_of_actor
from tests.operators.changed_stays import AT_DESK, CODE, DISCOUNTED
from tests.operators.decided_log import decided_log
from topics.messages.events import BookingReserved, CodeClaimed

#: No id is saved here.
NOWHERE: Any = None


@pytest.mark.parametrize(
    ("actor", "id"),
    [
        ("operator/17", 17),
        ("operator/999999999999999999", 999_999_999_999_999_999),
        *((other, None) for other in ("user/17", "operator/", "operator/x", "operator/-1", "operator", "")),
        ("operator/9999999999999999999", None),
    ],
)
def test_the_action_is_in_the_actor_of_an_operator_alone(actor: str, id: int | None) -> None:
    assert id_of_actor(actor) == id


def test_the_highest_action_that_an_event_names_is_kept() -> None:
    named = NamedIds(NOWHERE)
    assert named.last_action == 0

    for actor in ("operator/16", None, "user/99", "operator/17", "operator/3"):
        named.add_actor(actor)

    assert named.last_action == 17


def test_the_lists_of_guests_without_an_account_and_promo_codes_are_named() -> None:
    named, history = NamedIds(NOWHERE), decided_log()
    for kind, booking in ((BookingReserved, AT_DESK), (CodeClaimed, DISCOUNTED)):
        named.add(history.find(kind, booking).event)

    assert named.ids["promo_code_name"] == {CODE}
    assert named.bookings_of_lists == {UUID(int=1_000 * AT_DESK.int + 1): AT_DESK}
