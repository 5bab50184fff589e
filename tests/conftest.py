"""The tests share a real broker and a real database server, and every test has fresh topics and a fresh database."""

import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import hypothesis
import psutil
import pytest
from pydantic import SecretStr
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.support.databases import Databases
from tests.support.log import Log, open_log
from tests.support.processes import is_gone
from tests.support.purity import Guard
from tests.support.servers import KAFKA, POSTGRES, SharedServers, shared_server
from tests.support.stack import Server, fresh_database, name_of, open_kafka, open_postgres
from topics.kafka import admin
from topics.kafka.settings import KafkaSettings

pytest_plugins = ("pytester", "tests.system.trace.replayed")

#: Folders and files whose tests share one whole system: all that share one go to one process, as the tests of a file
#: do elsewhere. In several processes, or between others, they would start it again and again, at ten seconds a time.
_ONE_SYSTEM: Final = {
    "tests/system/path": "tests/system/path",
    "tests/system/api": "tests/system/api",
    "tests/system/money": "tests/system/money",
    "tests/system/cluster": "tests/system/cluster",
    "tests/system/pipeline/test_promo_codes.py": "tests/system/pipeline/coordinated",
    "tests/system/pipeline/test_trips.py": "tests/system/pipeline/coordinated",
}
#: Few tests that take long, in the order in which they begin: at the end of a run one process would wait for them.
_SLOW: Final = (
    "tests/system/money",
    "tests/system/path",
    "tests/system/api",
    "tests/system/cluster",
    "tests/system/pipeline/test_agent_under_kill.py",
    "tests/faults/test_rows.py",
    "tests/system/pipeline/test_two_releases.py",
    "tests/sandbox/test_demo.py",
    "tests/workers/runtime/test_groups.py",
    "tests/operators/restore/test_command.py",
    "tests/sandbox/test_up.py",
    "tests/operators/restore/test_lost_database.py",
    "tests/operators/replay/test_whole_system.py",
    "tests/topics/kafka/test_security.py",
    "tests/workers/payments/test_caller.py",
    "tests/sandbox/test_postgres.py",
)
#: Folders whose tests are unit tests, but for those that ask for a server or carry another mark.
_UNIT: Final = tuple(
    f"tests/{room}" for room in ("contracts", "docs", "ingress", "pricing", "storage", "telemetry", "topics", "workers")
)
_SERVERS: Final = frozenset({"kafka", "postgres", "pytester", "redis_server"})
_UNIT_PREFIXES: Final = tuple(f"{folder}/" for folder in _UNIT)
_NOT_UNIT: Final = ("process", "system", "long", "trace", "api")
_SHARED: Final = pytest.StashKey[SharedServers]()
_our_servers: set[int] = set()
_guard = Guard()


class _ChildrenSeen:
    """The processes that this one had when they were last listed, and the count of starts at that time."""

    def __init__(self) -> None:
        self.started = -1
        self.children: list[psutil.Process] = []

    def update(self) -> None:
        """List them now."""
        self.started = _guard.started
        self.children = _children()


_children_seen = _ChildrenSeen()
# A machine that pauses in the middle of an example, or while one is made, has found nothing wrong.
# Hypothesis repeats its examples by itself wherever the variable CI is set, hence False.
hypothesis.settings.register_profile(
    "slow", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], derandomize=False
)
# Where a change may land or not, the examples are the same in each run; all other runs choose new ones.
hypothesis.settings.register_profile("repeatable", hypothesis.settings.get_profile("slow"), derandomize=True)
hypothesis.settings.load_profile("slow")


class _Scheduling(LoadFileScheduling):
    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        # The order is that of `pytest_collection_modifyitems`.
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        # Unit tests share nothing, and the core's longest fill one file.
        return nodeid if _only_unit(self.config) else _scope(nodeid)


def _scope(nodeid: str) -> str:
    """Return the name of the tests that all go to one process with this one: a folder's, a file's, or some files'."""
    file, _, _ = nodeid.partition("::")
    folder, _, _ = file.rpartition("/")
    return _ONE_SYSTEM.get(folder) or _ONE_SYSTEM.get(file) or file


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes of tests, also where a shell that runs us in the background had us ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _only_unit(config: pytest.Config) -> bool:
    return str(config.getoption("markexpr")) == "unit"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import other tests where only unit tests are asked for."""
    if not _only_unit(config) or collection_path.parent.name != "tests":
        return None
    return f"tests/{collection_path.name}" not in _UNIT or None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Scheduling:
    """Decide which tests run in one process, where there are several."""
    return _Scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Hand each process the addresses of the servers that the run shares."""
    if _only_unit(node.config):
        return
    servers = node.config.stash.setdefault(_SHARED, None) or SharedServers()
    node.config.stash[_SHARED] = servers
    node.workerinput.update(servers.addresses)


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Iterator[None]:
    """Start the servers of the run once the other processes are started, while those collect their tests."""
    yield
    if (servers := session.config.stash.get(_SHARED, None)) is not None:
        servers.start()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers of the run."""
    if (servers := config.stash.get(_SHARED, None)) is not None:
        servers.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests for `-m`, and order them for xdist: long tests begin first, whole systems, then files with many tests.

    All tests of the trace and of the whole API are `long`; `unit` are those that need no server.
    """
    size = Counter(_scope(item.nodeid) for item in items)
    slow = {scope: rank for rank, scope in enumerate(_SLOW)}
    systems = {_scope(item.nodeid) for item in items if item.get_closest_marker("system")}

    def turn(item: pytest.Item) -> tuple[int, bool, int]:
        scope = _scope(item.nodeid)
        return slow.get(scope, len(slow)), scope not in systems, -size[scope]

    items.sort(key=turn)
    for item in items:
        if item.get_closest_marker("trace") or item.get_closest_marker("api"):
            item.add_marker("long")
        fixtures = frozenset(getattr(item, "fixturenames", ()))
        marked = any(item.get_closest_marker(name) for name in _NOT_UNIT)
        if item.nodeid.startswith(_UNIT_PREFIXES) and not marked and not fixtures & _SERVERS:
            item.add_marker("unit")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a unit test that starts a process or connects to a server."""
    if item.get_closest_marker("unit") is None:
        return (yield)
    with _guard.pure() as tried:
        result = yield
    if tried:
        pytest.fail(f"a unit test asks for {'; '.join(tried)}: mark it `process`, or take this from it")
    return result


def _shared(request: pytest.FixtureRequest, name: str) -> tuple[str, str] | None:
    address: tuple[str, str] | None = getattr(request.config, "workerinput", {}).get(name)
    return address


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A broker for the whole run. A test that harms its broker starts one of its own instead."""
    address = _shared(request, KAFKA)
    with open_kafka(tmp_path_factory.mktemp("kafka")) if address is None else shared_server(address) as server:
        _our_servers.update(server.pids)
        yield server


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A database server for the whole run. A test that harms its server starts one of its own instead."""
    address = _shared(request, POSTGRES)
    with open_postgres(tmp_path_factory.mktemp("postgres")) if address is None else shared_server(address) as server:
        _our_servers.update(server.pids)
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: Server) -> Iterator[str]:
    """The name of a database with our schema and nothing in it, from which tests get copies."""
    with fresh_database(postgres.url) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        upgrade()
        yield name_of(url)


@pytest.fixture(scope="session")
def databases(postgres: Server, migrated: str) -> Iterator[Databases]:
    """The databases of this process's tests."""
    databases = Databases(postgres.url, migrated)
    yield databases
    databases.drop()


@pytest.fixture
def database(databases: Databases) -> Iterator[DatabaseSettings]:
    """Settings of a migrated, empty database of this test's own."""
    with databases.lend() as url:
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
    """A writer and reader of this test's topics."""
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
def _no_process_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the processes that a test started and forgot, and fail it."""
    # To list children takes milliseconds, as long as a hundred scenarios. A unit test may start none, nor may its
    # fixtures: they are listed only if a process was started all the same.
    is_unit = request.node.get_closest_marker("unit") is not None
    if not is_unit or _children_seen.started != _guard.started:
        _children_seen.update()
    before, started = _children_seen.children, _guard.started
    yield
    if is_unit and _guard.started == started:
        return
    left = [process for process in _children() if process not in before and process.pid not in _our_servers]
    running = [words for process in left if (words := _in_words(process)) is not None]
    for process in left:
        process.kill()
        process.wait()
    if running:
        pytest.fail(f"left running: {'; '.join(running)}")


def _children() -> list[psutil.Process]:
    return psutil.Process().children()


def _in_words(process: psutil.Process) -> str | None:
    """Name a process; None for one that has ended by now."""
    try:
        return None if is_gone(process) else f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        return None
