"""Moves the clock of a sandbox some days ahead: that of our programs, of PostgreSQL and of the stand-in for Stripe.

libfaketime, which they load, shifts what the C library answers. The broker keeps the machine's time: under libfaketime
0.9.10 the threads of Java 17 use both cores and answer nothing for seconds, unless its correction of waits is off
(`FAKETIME_FORCE_MONOTONIC_FIX=0`, measured 2026-11-30). So the topics of such a sandbox keep the
times of the producers (`TOPIC_CREATE_TIME`), which are our programs, and the log's time is shifted like all others.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import UnknownTopicOrPartitionError, for_code

from topics.catalogue import CATALOGUE
from topics.kafka.admin import topic_configuration
from topics.kafka.settings import KafkaSettings

#: Debian's folder of a library has the name of the architecture; the form MT is for programs with threads.
_LIBRARIES: Final = "*/faketime/libfaketimeMT.so.1"
_MISSING: Final = "libfaketime is not installed, which moves the clock (apt-get install faketime)."
_FILE: Final = "days-ahead"


class ClockCannotMove(RuntimeError):
    """The clock of the sandbox cannot be as many days ahead as is asked for."""


def unavailable() -> str | None:
    """Why the clock cannot be moved on this machine, in one sentence; None when it can."""
    return _MISSING if _library() is None else None


def variables(days: int) -> Mapping[str, str]:
    """Return the variables that shift the clock of a process; none for 0 days.

    Raises:
        ClockCannotMove: libfaketime is not installed.
    """
    if days == 0:
        return {}
    # Waits and deadlines are measured by the monotonic clock, which stays as it is.
    return {"LD_PRELOAD": str(_installed_library()), "FAKETIME": f"+{days}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def following(file: Path) -> Mapping[str, str]:
    """Return the variables by which the clock of a process follows a file, which has seconds ahead, such as `-1200`.

    A change of the file counts within a second.

    Raises:
        ClockCannotMove: libfaketime is not installed.
    """
    return {
        "LD_PRELOAD": str(_installed_library()),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Without this the threads of Java do not wait but ask all the time.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        # Files keep their real times.
        "NO_FAKE_STAT": "1",
    }


def others_servers() -> str | None:
    """Why the clock cannot be moved beside the servers that the environment names; None when it names none."""
    given = sorted({"KAFKA_URL", "DATABASE_URL"} & os.environ.keys())
    if given:
        return f"--days-ahead moves the clock of the sandbox's own servers alone: unset {' and '.join(given)}."
    return None


def keep(folder: Path, days: int) -> None:
    """Note how far ahead the clock of the folder's data is; raises ClockCannotMove where it would go back."""
    file = folder / _FILE
    before = int(file.read_text()) if file.exists() else 0
    if days < before:
        raise ClockCannotMove(
            f"The data in {folder} are {before} days ahead, and time does not go back: "
            f"give --days-ahead {before} or more, or another --data."
        )
    if days:
        file.write_text(str(days))


async def let_topics_keep_the_times_of_producers(variables: Mapping[str, str]) -> None:
    """Change those topics that a broker of ours has from before its clock was moved.

    `variables` bring a program of ours to it.

    Raises:
        aiokafka.errors.KafkaError: the broker refuses.
    """
    settings = KafkaSettings(**_in_lower_case(variables), topic_create_time=True)
    admin = AIOKafkaAdminClient(**settings.client_options(), client_id="innkeeper-sandbox")
    await admin.start()
    try:
        resources = [
            ConfigResource(ConfigResourceType.TOPIC, settings.topic(topic), topic_configuration(settings, topic))
            for topic in CATALOGUE
        ]
        for response in await admin.alter_configs(resources):
            for code, message, *_ in response.resources:
                if code and for_code(code) is not UnknownTopicOrPartitionError:
                    raise for_code(code)(message)
    finally:
        await admin.close()


def _in_lower_case(variables: Mapping[str, str]) -> dict[str, Any]:
    return {name.lower(): value for name, value in variables.items()}


def _installed_library() -> Path:
    library = _library()
    if library is None:
        raise ClockCannotMove(_MISSING)
    return library


def _library() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob(_LIBRARIES))), None)
