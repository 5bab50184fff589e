"""Log lines as JSON or for people, ours and the libraries' alike, each with the ids of its request or message.

Code logs with `logging.getLogger(__name__).warning("...", argument)`; structlog only formats the lines. The ids are
bound by reference where work begins, and looked up when a line is written, which hardly ever happens. No line has
names, addresses, or the content of a request.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal

import structlog
from structlog.typing import Processor

from telemetry.ids import NAMES, bound

#: The level from which on lines of libraries are written.
_LIBRARIES: Final[Mapping[str, int]] = {
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "aiokafka": logging.WARNING,
    "httpx": logging.WARNING,
    "stripe": logging.WARNING,
    "opentelemetry": logging.WARNING,
}


def configure(format: Literal["json", "console"], part: str, name: str) -> None:
    """Write log lines to stderr from now on; lines of libraries only from warnings up."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(NAMES),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_ids,
    ]
    written = _json(part, name) if format == "json" else _for_people()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=written))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for library, level in _LIBRARIES.items():
        logging.getLogger(library).setLevel(level)


def _with_ids(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for field, value in bound().items():
        line.setdefault(field, value)
    return line


def _json(part: str, name: str) -> list[Processor]:
    def with_process(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**line, "part": part, "process": name}

    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        with_process,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
    ]


def _for_people() -> list[Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
