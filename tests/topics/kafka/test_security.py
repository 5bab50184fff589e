"""A broker with access control: every role has its own user, does its own work, and can do nothing else."""

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import pytest
import pytest_asyncio
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError

from sandbox.kafka import SecuredKafka, available
from sandbox.kafka.certificates import available as can_make_certificates
from sandbox.kafka.probe import as_client
from sandbox.kafka.secured import MECHANISMS, STRANGER, Way
from sandbox.ports import free_port
from sandbox.system import Plan, System
from tests.support.waiting import wait_until
from tests.system.path.guest import House
from topics.catalogue import BOOKING_COMMANDS, BOOKING_EVENTS, CATALOGUE, STRIPE_WEBHOOKS, Service, Topic
from topics.consumers import PROCESSED_BY
from topics.envelope import Outgoing, command_record
from topics.kafka import admin, log_reader
from topics.kafka.producer import open_producer
from topics.kafka.settings import KafkaSettings
from topics.messages.commands import ExpireHold
from workers.runtime.topics_ready import wait_for_topics

CANNOT = available() or can_make_certificates()
pytestmark = [
    pytest.mark.system,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CANNOT is not None, reason=CANNOT or ""),
]
#: The value of a record that only tries whether it may be written.
NOTHING = b"{}"
EVERYBODY = (STRANGER, *(service.value for service in Service if service.ours))
WAYS: list[Way] = [
    ("SSL", "PLAIN"),
    *(("SASL_SSL", mechanism) for mechanism in MECHANISMS),
    *(("SASL_PLAINTEXT", mechanism) for mechanism in MECHANISMS),
]


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> None:
    """The system's own supervisor starts its processes, and ends them all."""


@dataclass(frozen=True)
class Running:
    """A program of ours, and its log file."""

    process: Process
    log: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    def logs_again(self, sentence: str) -> bool:
        """Whether it logged a sentence more than once."""
        return self.log.read_text().count(sentence) > 1


class Secured(House):
    """A whole system on a secured broker."""

    @property
    def broker(self) -> SecuredKafka:
        """The broker."""
        assert isinstance(self.system.kafka, SecuredKafka)
        return self.system.kafka

    def kafka_as(self, principal: str, **variables: str) -> KafkaSettings:
        """Return the settings of a client with this user."""
        return as_client({**self.system.environment(principal), **variables})

    @asynccontextmanager
    async def program(self, principal: str | None, *arguments: str) -> AsyncIterator[Running]:
        """Run a program with a user for the length of the block."""
        log = self.system.logs / f"{uuid4().hex}.log"
        found = {**os.environ, **self.system.environment(principal)}
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *arguments, env=found, stdout=output, stderr=STDOUT
            )
        try:
            yield Running(process, log)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def written(self, topic: Topic) -> int:
        """Return the number of records on a topic."""
        operator = self.kafka_as("operators")
        return sum(end for _, end in (await log_reader.end_offsets(operator, [operator.topic(topic)])).values())

    async def stored(self, topic: Topic, record_filter: log_reader.RecordFilter) -> list[log_reader.Record]:
        """Return the matching records of a topic; the system writes others by itself meanwhile."""
        operator = self.kafka_as("operators")
        found = log_reader.read(operator, operator.topic(topic), record_filter, since=None, last=None, follow=False)
        return [record async for record in found]

    async def cannot_write(self, principal: str, topic: Topic) -> bool:
        """Return whether a user is refused to write to a topic."""
        # An idempotent producer is refused before it has named a topic when there is none that it may write to.
        kafka = self.kafka_as(principal).model_copy(update={"kafka_idempotent": False})
        async with open_producer(kafka, client_id="test") as producer:
            try:
                await producer.send(Outgoing(kafka.topic(topic), b"1", NOTHING, []))
            except TopicAuthorizationFailedError:
                return True
        return False

    async def cannot_read(self, principal: str, topic: Topic) -> bool:
        """Return whether a user is refused to read a topic."""
        kafka = self.kafka_as(principal)
        try:
            [first, *_] = await log_reader.partitions_of(kafka, kafka.topic(topic))
            async with log_reader.LogReader(kafka) as reader:
                reader.assign({first: 0})
                # A refusal ends this at once; only a user that may read waits so long.
                async with asyncio.timeout(60), aclosing(reader.follow()) as batches:
                    await anext(batches)
        except (admin.TopicsFailed, TopicAuthorizationFailedError):
            return True
        except TimeoutError:
            return False
        return False


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    """Start everything once; the tests themselves write commands as the ingress does."""
    folder = tmp_path_factory.mktemp("secured")
    plan = Plan(folder=folder, broker="secured", partitions=2, own_servers=True, quiet=True)
    async with System(plan) as system, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session:
        kafka = as_client(system.environment("ingress"))
        async with open_producer(kafka, client_id="test") as producer:
            yield Secured(system, session, producer, kafka)


async def test_a_booking_is_made_and_paid_by_roles_with_users_of_their_own(house: Secured) -> None:
    guest, room = await house.guest(), await house.room()

    booking = await guest.booked(room)
    await guest.pay(await guest.checkout(booking))

    await guest.becomes(booking, "CONFIRMED")
    query = "select count(*) = 1 as so from booking_timeline where booking_id = %s and type = 'booking.confirmed.v1'"
    await house.eventually(query, booking)
    assert await house.money(booking) == (24_000, 0)
    assert await house.written(STRIPE_WEBHOOKS) > 0
    assert "ended (" not in (house.system.logs / "sandbox.log").read_text()


async def test_an_operator_reads_the_events_of_a_room(house: Secured) -> None:
    room = await house.room()

    found = await house.stored(BOOKING_EVENTS, log_reader.RecordFilter(room=room.id))

    assert [log_reader.cloud_event(record)["type"] for record in found] == ["inventory.opened.v1"]


async def test_the_expiry_timer_may_ask_for_a_hold_to_end(house: Secured) -> None:
    kafka, booking_id = house.kafka_as("expiry"), uuid4()

    async with open_producer(kafka, client_id="test") as producer:
        await producer.send(expire_hold(kafka, booking_id))

    [asked] = await house.stored(BOOKING_COMMANDS, log_reader.RecordFilter(booking=str(booking_id)))
    assert log_reader.cloud_event(asked)["type"] == ExpireHold.message_type


async def test_only_the_ingress_reconciliation_and_operators_that_replay_write_webhooks(house: Secured) -> None:
    others = [name for name in EVERYBODY if name not in {"ingress", "reconciliation", "operators"}]

    refused = await asyncio.gather(*(house.cannot_write(name, STRIPE_WEBHOOKS) for name in others))

    assert [name for name, was in zip(others, refused, strict=True) if not was] == []
    webhooks = await house.stored(STRIPE_WEBHOOKS, log_reader.RecordFilter())
    assert [record for record in webhooks if record.value == NOTHING] == []


@pytest.mark.parametrize("principal", EVERYBODY)
async def test_nobody_writes_or_reads_what_the_catalogue_leaves_to_others(house: Secured, principal: str) -> None:
    again = PROCESSED_BY if principal == Service.OPERATORS else {}
    not_written = [topic for topic in CATALOGUE if principal not in topic.written_by and topic.name not in again]
    not_read = [topic for topic in CATALOGUE if principal not in (*topic.read_by, Service.OPERATORS, Service.INGRESS)]

    refused = await asyncio.gather(
        *(house.cannot_write(principal, topic) for topic in not_written),
        *(house.cannot_read(principal, topic) for topic in not_read),
    )

    assert len(refused) > 1
    assert all(refused), list(zip([*not_written, *not_read], refused, strict=True))


@pytest.mark.parametrize("way", WAYS, ids="-".join)
async def test_every_security_protocol_that_can_be_set_connects(house: Secured, way: Way) -> None:
    assert await admin.check(house.kafka_as("operators", **house.broker.variables("operators", way))) == []


async def test_the_documented_settings_of_a_role_connect_it(house: Secured) -> None:
    written = KafkaSettings(_env_file=house.broker.folder / "clients" / "operators.env", topic_partitions=2)

    assert await admin.check(written) == []


async def test_a_wrong_password_is_reported_and_never_shown(house: Secured, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KafkaConnectionError, match=r"no way in .* SaslAuthenticationFailed") as refused:
        await admin.check(house.kafka_as("operators", KAFKA_PASSWORD="a wrong password"))

    assert "a wrong password" not in str(refused.value) + caplog.text


async def test_a_broker_with_an_unknown_certificate_is_refused(house: Secured) -> None:
    with pytest.raises(KafkaConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        await admin.check(house.kafka_as("operators", KAFKA_CA_FILE=""))


async def test_a_program_without_a_user_logs_so_and_waits(house: Secured) -> None:
    port = free_port()
    sentence = f"no way in at {house.broker.url}"

    async with (
        house.program(None, "operators", "ingress", "--port", str(port)) as ingress,
        house.program(None, "operators", "worker", "reservations") as worker,
    ):
        for process in (ingress, worker):
            await wait_until(partial(process.logs_again, sentence), message=sentence)
        alive = await wait_until(partial(health, house, port, "live"), message="the ingress answers")
        ready = await health(house, port, "ready")
        running = ingress.running and worker.running

    assert (ready, alive, running) == (503, 200, True)
    assert "KAFKA_SECURITY_PROTOCOL=PLAINTEXT" in ingress.log.read_text()
    assert "Traceback" not in ingress.log.read_text() + worker.log.read_text()


@pytest.mark.parametrize(
    ("principal", "reason"),
    [(STRANGER, "booking.events: .*TOPIC_AUTHORIZATION_FAILED"), ("payments", "innkeeper-projections: .*GROUP_AUTH")],
)
async def test_a_worker_without_its_rights_logs_so_and_waits(
    house: Secured, principal: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Payments may read the events too, but not in the place of projections.
    kafka = house.kafka_as(principal)

    waiting = asyncio.create_task(wait_for_topics(kafka, [BOOKING_EVENTS], kafka.group("projections")))
    try:
        await wait_until(lambda: len(re.findall(reason, caplog.text)) > 1, message=lambda: caplog.text)
        assert not waiting.done()
    finally:
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_no_log_contains_a_password(house: Secured) -> None:
    passwords = json.loads((house.broker.folder / "passwords.json").read_text()).values()
    logs = [*house.system.logs.glob("*.log"), house.broker.folder / "kafka.log"]

    assert {path.stem for path in logs} >= {"ingress", "reservations-1", "payments-1", "kafka"}
    assert [path.name for path in logs for password in passwords if password in path.read_text()] == []


def expire_hold(kafka: KafkaSettings, booking_id: UUID) -> Outgoing:
    """A command that does no harm: it names no booking of anybody's."""
    command = ExpireHold(room_id=1, booking_id=booking_id)
    return command_record(
        kafka.topic(BOOKING_COMMANDS), command, id=str(uuid4()), source="test", time=datetime.now(UTC)
    )


async def health(house: Secured, port: int, name: str) -> int:
    try:
        async with house.session.get(f"http://127.0.0.1:{port}/health/{name}") as answer:
            return answer.status
    except aiohttp.ClientConnectionError as error:
        raise AssertionError("nobody answers yet") from error
