"""What tests are handed: a real broker and a real database for the session, a fresh corner of each for every test."""

import signal
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import hypothesis
import psutil
import pytest
from pydantic import SecretStr
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.support.log import Log, open_log
from tests.support.processes import is_gone
from tests.support.stack import Server, fresh_database, name_of, open_kafka, open_postgres
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings

pytest_plugins = ("pytester", "tests.system.trace.replayed")

#: Folders whose tests share one whole system: all of a folder go to one process, as those of a file do elsewhere.
ONE_SYSTEM = ("tests/system/path", "tests/system/api")
_our_servers: set[int] = set()
# A machine that stands still in the middle of an example, or while one is made, has found nothing wrong.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


class _Scheduling(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        folder, _, _ = file.rpartition("/")
        return folder if folder in ONE_SYSTEM else file


def pytest_configure() -> None:
    """Let the processes of tests hear Ctrl-C, also where a shell that runs us in the background had us ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Scheduling:
    """Say which tests run in one process, where there are several."""
    return _Scheduling(config, log)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A broker for the whole session. A test that harms its broker starts one of its own instead."""
    with open_kafka(tmp_path_factory.mktemp("kafka")) as server:
        _our_servers.update(server.pids)
        yield server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A database server for the whole session. A test that harms its server starts one of its own instead."""
    with open_postgres(tmp_path_factory.mktemp("postgres")) as server:
        _our_servers.update(server.pids)
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: Server) -> Iterator[str]:
    """The name of a database with our schema and nothing in it, from which tests get copies."""
    with fresh_database(postgres.url) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        upgrade()
        yield name_of(url)


@pytest.fixture
def database(postgres: Server, migrated: str) -> Iterator[DatabaseSettings]:
    """Settings of a fresh, migrated, empty database of this test's own."""
    with fresh_database(postgres.url, migrated) as url:
        yield DatabaseSettings(_env_file=None, database_url=SecretStr(url))


@pytest.fixture
async def kafka_settings(kafka: Server) -> AsyncIterator[KafkaSettings]:
    """Settings of this test's own topics, which are there, with four partitions, and empty."""
    settings = KafkaSettings(
        _env_file=None, kafka_url=kafka.url, topic_prefix=f"test-{uuid4().hex[:12]}.", topic_partitions=4
    )
    await admin.create(settings)
    yield settings
    await admin.delete(settings)


@pytest.fixture
async def log(kafka_settings: KafkaSettings) -> AsyncIterator[Log]:
    """This test's hands on its topics."""
    async with open_log(kafka_settings) as opened:
        yield opened


@pytest.fixture
def environment(database: DatabaseSettings, kafka_settings: KafkaSettings) -> dict[str, str]:
    """The variables that bring a process of ours to this test's database and topics; add them to `os.environ`."""
    return {
        "DATABASE_URL": database.conninfo(),
        "KAFKA_URL": kafka_settings.kafka_url,
        "TOPIC_PREFIX": kafka_settings.topic_prefix,
        "TOPIC_PARTITIONS": str(kafka_settings.topic_partitions),
        "JWT_SECRET_KEY": "a key that only tests know, of some length",
        "STRIPE_API_KEY": "sk_test_of_the_stand_in",
        "STRIPE_WEBHOOK_SECRET": "whsec_of_the_stand_in",
        "FRONTEND_URL": "http://127.0.0.1:3000",
        "LOG_FORMAT": "console",
    }


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> Iterator[None]:
    """End what a test started and forgot, and say so."""
    before = _children()
    yield
    left = [process for process in _children() if process not in before and process.pid not in _our_servers]
    told = [words for process in left if (words := _in_words(process)) is not None]
    for process in left:
        process.kill()
        process.wait()
    if told:
        pytest.fail(f"left running: {'; '.join(told)}")


def _children() -> list[psutil.Process]:
    return psutil.Process().children()


def _in_words(process: psutil.Process) -> str | None:
    """Name a process; None for one that has ended by now."""
    try:
        return None if is_gone(process) else f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        return None
