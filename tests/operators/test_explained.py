"""What operators did to a booking's records is part of its life."""

import pytest

from operators.explain import Kind, explain
from storage.settings import DatabaseSettings
from tests.operators.conftest import Ledger, at_work
from tests.operators.test_replaying import all_of, carry_out, nights, play, stay
from tests.support.log import Log
from topics.catalogue import BOOKING_COMMANDS
from workers.reservations import handler

pytestmark = pytest.mark.system


async def test_a_command_that_was_replayed_says_who_did_it(
    log: Log, database: DatabaseSettings, ledger: Ledger
) -> None:
    role, booked = handler.build(log.settings, database), stay()
    await log.send(nights(), booked, stay())
    await carry_out(role, log, database)
    async with at_work(role, log, database):
        await play(log, ledger, all_of(BOOKING_COMMANDS))

    life = await explain(log.settings, database, booked.booking_id)

    first, again = (step for step in life.steps if step.kind is Kind.COMMAND)
    assert first.sent_by is None
    assert again.sent_by is not None
    assert (again.sent_by.who, again.sent_by.action) == ("ines", "replay")
    assert abs((again.at - again.sent_by.at).total_seconds()) < 600
