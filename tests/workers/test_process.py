"""No worker of any role starts with a log that is half there, or with an empty ledger beside a full log."""

from typing import NoReturn
from uuid import uuid4

import pytest
from aiokafka import TopicPartition

from storage.settings import DatabaseSettings
from tests.support.log import Log
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, Service
from topics.envelope import Outgoing
from topics.kafka import admin
from topics.kafka.log_reader import OffsetRange
from topics.kafka.settings import KafkaSettings
from workers import process
from workers.runtime import empty_ledger
from workers.runtime.role import Stopped

ROLES = ["reservations", "payments", "projections", "coordination", "expiry", "reconciliation"]


def test_a_role_needs_what_it_reads_and_writes_and_the_log_of_events() -> None:
    assert {Service(role) for role in ROLES} == {
        each for each in Service if each.ours and each not in {Service.INGRESS, Service.OPERATORS}
    }
    assert process.topics_of("expiry") == [BOOKING_COMMANDS, BOOKING_EVENTS]
    assert all(BOOKING_EVENTS in process.topics_of(role) for role in ROLES)


class Ended(Exception):
    """The process ends here."""


@pytest.mark.process
@pytest.mark.parametrize("role", ROLES)
def test_each_process_waits_until_all_is_ready_before_it_works(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: KafkaSettings, __: DatabaseSettings, ready: str, ___: str | None) -> None:
        assert ready == role
        raise Stopped("half there")

    def end(error: Stopped) -> NoReturn:
        raise Ended(str(error))

    monkeypatch.setattr(process, "wait_until_ready", refuse)
    monkeypatch.setattr(process, "stop_hard", end)
    monkeypatch.setattr(process, "_start_telemetry", lambda *_: None)
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_nobody")

    with pytest.raises(Ended, match="half there"):
        process.run(role, "1")


@pytest.mark.system
async def test_no_role_starts_with_a_log_that_is_half_there(log: Log, database: DatabaseSettings) -> None:
    await admin.create_with_own_times(log.settings, BOOKING_EVENTS)

    for role in ROLES:
        with pytest.raises(Stopped, match=r"message\.timestamp\.type=CreateTime"):
            await process.wait_until_ready(log.settings, database, role, None)


@pytest.mark.system
async def test_no_role_starts_with_an_empty_ledger_beside_a_log_that_has_events(
    log: Log, database: DatabaseSettings
) -> None:
    await log.write(Outgoing(log.settings.topic(BOOKING_EVENTS), b"7", b"{}", [("ce_id", str(uuid4()).encode())]))

    for role in ROLES:
        with pytest.raises(Stopped, match="The ledger is empty"):
            await process.wait_until_ready(log.settings, database, role, None)


async def test_a_worker_of_a_new_system_starts_while_another_decides_the_first_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([False, True])

    async def has_decided(_: DatabaseSettings, __: str) -> bool:
        return next(answers)

    async def ends(_: KafkaSettings, names: list[str]) -> dict[TopicPartition, OffsetRange]:
        return {TopicPartition(names[0], 0): OffsetRange(0, 1)}

    monkeypatch.setattr(empty_ledger, "_has_decided", has_decided)
    monkeypatch.setattr(empty_ledger, "end_offsets", ends)

    await empty_ledger.check_ledger(KafkaSettings(_env_file=None), DatabaseSettings(_env_file=None))
