"""Operators' replays of a booking's records are part of its history."""

import pytest

from operators import dead_letters
from operators.explain import Kind, explain
from storage.settings import DatabaseSettings
from tests.operators.conftest import Ledger, at_work
from tests.operators.replay.test_replay import all_of, nights, process, run_replay, stay
from tests.support.log import Log
from topics.catalogue import BOOKING_COMMANDS, DEAD_LETTERS
from workers.reservations import handler
from workers.runtime.records import dead_letter

pytestmark = pytest.mark.system


async def test_a_command_that_was_replayed_names_the_operator(
    log: Log, database: DatabaseSettings, ledger: Ledger
) -> None:
    role, booked = handler.build(log.settings, database), stay()
    await log.send(nights(), booked, stay())
    await process(role, log, database)
    async with at_work(role, log, database):
        await run_replay(log, ledger, all_of(BOOKING_COMMANDS))

    history = await explain(log.settings, database, booked.booking_id)

    first, again = (step for step in history.steps if step.kind is Kind.COMMAND)
    assert first.sent_by is None
    assert again.sent_by is not None
    assert (again.sent_by.who, again.sent_by.action) == ("ines", "replay")
    assert abs((again.at - again.sent_by.at).total_seconds()) < 600


async def test_a_clients_own_repeat_of_the_same_moment_is_nobodys_replay(
    log: Log, database: DatabaseSettings, ledger: Ledger
) -> None:
    role, booked = handler.build(log.settings, database), stay()
    await log.send(nights())
    await log.send(booked, id="the command")
    await process(role, log, database)
    async with at_work(role, log, database):
        await log.send(booked, id="the command")
        await run_replay(log, ledger, all_of(BOOKING_COMMANDS))
        await log.send(booked, id="the command")
    await process(role, log, database)

    history = await explain(log.settings, database, booked.booking_id)

    commands = [step for step in history.steps if step.kind is Kind.COMMAND]
    assert [step.sent_again for step in commands] == [False, True, True, True]
    assert [step.sent_by and step.sent_by.who for step in commands] == [None, None, "ines", None]
    assert sum(step.sent_again for step in history.steps if step.kind is Kind.EVENT) == 3


async def test_a_dead_letter_that_was_replayed_names_the_operator(
    log: Log, database: DatabaseSettings, ledger: Ledger
) -> None:
    role, booked = handler.build(log.settings, database), stay()
    await log.send(nights(), booked)
    await process(role, log, database)
    [records] = (await log.read(BOOKING_COMMANDS)).values()
    command = records[-1]
    await log.write(
        dead_letter(log.settings.topic(DEAD_LETTERS), "reservations", command, "UnknownType: of a later release")
    )
    [found] = await dead_letters.find_dead_letters(log.settings, ledger)
    async with at_work(role, log, database):
        await dead_letters.replay(log.settings, ledger, log.producer, found, operator="grace")
    await process(role, log, database)

    history = await explain(log.settings, database, booked.booking_id)

    first, again = (step for step in history.steps if step.kind is Kind.COMMAND)
    assert (first.sent_again, again.sent_again) == (False, True)
    assert again.sent_by is not None
    assert (again.sent_by.who, again.sent_by.action) == ("grace", "dead-letters replay")
