"""Log lines: one form for all, with the ids of the request or message, and no personal data."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from uuid import uuid4

import pytest

from telemetry import logs
from telemetry.ids import about, about_record
from topics.envelope import Envelope, encode_headers

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    about()


def headers(booking: str) -> list[tuple[str, bytes]]:
    return encode_headers(
        Envelope(
            id="c-1",
            type="booking.cancel.v1",
            source="test",
            subject=booking,
            time=datetime.now(UTC),
            correlation="c-0",
            traceparent=f"00-{TRACE}-b7ad6b7169203331-01",
        )
    )


def test_a_line_names_request_booking_command_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    booking = str(uuid4())
    logs.configure("json", "ingress", "ingress-1")
    about(request_id="r-1")
    about_record(headers(booking))

    logging.getLogger("ingress.log.broker").warning("the broker did not take %d records", 2)

    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "the broker did not take 2 records",
        "level": "warning",
        "logger": "ingress.log.broker",
        "request_id": "r-1",
        "booking_id": booking,
        "command_id": "c-1",
        "message_id": "c-1",
        "correlation_id": "c-0",
        "trace_id": TRACE,
        "part": "ingress",
        "process": "ingress-1",
    }


def test_a_later_request_of_the_same_connection_names_nothing_of_the_earlier(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("json", "ingress", "ingress-1")
    about(request_id="r-1")
    about_record(headers(str(uuid4())))
    about(request_id="r-2")

    logging.getLogger("ingress").warning("slow")

    line = json.loads(capsys.readouterr().err)
    assert line["request_id"] == "r-2"
    assert "booking_id" not in line


def test_a_failure_is_one_line_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "expiry", "expiry-1")
    try:
        logs._LIBRARIES["no such thing"]
    except LookupError:
        logging.getLogger("workers").exception("failed")

    [line] = capsys.readouterr().err.splitlines()
    assert "KeyError: 'no such thing'" in json.loads(line)["exception"]


def test_libraries_speak_in_the_same_form_and_only_when_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "payments", "payments-1")
    logging.getLogger("aiokafka.conn").info("chatter")
    logging.getLogger("aiokafka.conn").warning("gone")

    [line] = capsys.readouterr().err.splitlines()
    assert (json.loads(line)["event"], json.loads(line)["logger"]) == ("gone", "aiokafka.conn")


def test_other_fields_that_a_library_adds_to_its_line_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "payments", "payments-1")
    logging.getLogger("faust").error("bad", extra={"data": "a guest's name", "booking_id": "b-1"})

    line = json.loads(capsys.readouterr().err)
    assert "data" not in line
    assert line["booking_id"] == "b-1"


def test_the_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("console", "payments", "payments-1")
    logging.getLogger("workers").warning("the broker is away")

    assert "the broker is away" in (output := capsys.readouterr().err)
    assert not output.startswith("{")


@pytest.mark.process
@pytest.mark.parametrize("room", ["ingress.application", "workers.runtime.agent"])
def test_a_process_that_is_neither_traced_nor_scraped_imports_nothing_for_it(room: str) -> None:
    script = (
        f"import sys, {room}; import telemetry; from telemetry.settings import TelemetrySettings;"
        f"telemetry.start(TelemetrySettings(_env_file=None), 'part', 'name');"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus_client'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.process
def test_the_first_line_of_a_process_names_the_release_of_the_time_zones() -> None:
    script = (
        "import telemetry; from telemetry.settings import TelemetrySettings;"
        "telemetry.start(TelemetrySettings(_env_file=None, log_format='json'), 'expiry', 'expiry-1')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    line = json.loads(done.stderr.splitlines()[0])
    assert (line["part"], line["process"]) == ("expiry", "expiry-1")
    assert f"tzdata {version('tzdata')}" in line["event"]
