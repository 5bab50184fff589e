"""Unit tests are units: a test that asks for a server, starts a process or connects is found."""

import contextlib
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import cast

import pytest

from tests.conftest import _guard, pytest_collection_modifyitems
from tests.support.purity import NotPureError


@dataclass
class Item:
    """As much of a collected test as its marks depend on."""

    nodeid: str
    fixturenames: list[str]
    marks: list[str]

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None

    def add_marker(self, name: str) -> None:
        self.marks.append(name)


def test_a_process_is_refused_also_where_the_refusal_is_swallowed() -> None:
    with _guard.pure() as tried:
        with pytest.raises(NotPureError, match="mark it `process`"):
            subprocess.run([sys.executable, "-c", "pass"], check=True)
        with contextlib.suppress(NotPureError):
            subprocess.run([sys.executable, "-c", "pass"], check=True)

    assert [line.partition(" ")[0] for line in tried] == ["subprocess.Popen"] * 2
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def test_every_start_of_a_process_is_counted_also_a_refused_one() -> None:
    started = _guard.started
    with _guard.pure(), contextlib.suppress(NotPureError):
        subprocess.run([sys.executable, "-c", "pass"], check=True)
    assert _guard.started > started

    started = _guard.started
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    assert _guard.started > started


def test_a_process_that_a_fixture_of_a_unit_test_forgot_is_ended_and_fails_the_test(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest("from tests.conftest import _no_process_is_left_behind")
    pytester.makepyfile(
        """
        import subprocess, sys
        import pytest

        @pytest.fixture
        def forgetful():
            return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

        @pytest.mark.unit
        def test_forgetful(forgetful):
            pass

        @pytest.mark.unit
        def test_tidy():
            pass
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:xdist", "-W", "ignore")

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left running: *time.sleep(600)*"])


def test_a_connection_is_refused() -> None:
    server, client = socket.create_server(("127.0.0.1", 0)), socket.socket()
    with server, client, _guard.pure() as tried, pytest.raises(NotPureError):
        client.connect(server.getsockname())

    assert len(tried) == 1
    assert tried[0].startswith("socket.connect ('127.0.0.1',")


def test_unit_is_given_to_those_that_need_neither_server_nor_process() -> None:
    def item(nodeid: str, *fixtures: str, mark: str | None = None) -> Item:
        return Item(nodeid, list(fixtures), [] if mark is None else [mark])

    items = [
        item("tests/workers/decisions/test_holds.py::test_it", "request"),
        item("tests/workers/decisions/test_holds.py::test_it", "database", "postgres"),
        item("tests/topics/kafka/test_settings.py::test_it", mark="process"),
        item("tests/system/trace/test_trace.py::test_it"),
    ]
    pytest_collection_modifyitems(cast("list[pytest.Item]", items))

    assert [item.marks for item in items] == [["unit"], [], ["process"], []]


def test_the_whole_trace_and_the_whole_api_are_long() -> None:
    items = [Item("tests/system/api/test_it.py::test_it", [], [mark]) for mark in ("trace", "api", "system")]

    pytest_collection_modifyitems(cast("list[pytest.Item]", items))

    assert [item.marks for item in items] == [["trace", "long"], ["api", "long"], ["system"]]


def test_long_tests_begin_first_and_then_files_with_many_tests() -> None:
    nodeids = ["tests/ingress/test_a.py::a", "tests/ingress/test_b.py::a", "tests/ingress/test_b.py::b"]
    nodeids += ["tests/system/path/test_b.py::a", "tests/system/path/test_a.py::a"]
    items = [Item(nodeid, ["postgres"], []) for nodeid in nodeids]

    pytest_collection_modifyitems(cast("list[pytest.Item]", items))

    assert [item.nodeid for item in items] == [*nodeids[3:], *nodeids[1:3], nodeids[0]]
