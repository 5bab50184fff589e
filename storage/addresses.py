"""Addresses of PostgreSQL, in every form that libpq reads: the only parser of them in the project.

An address is a URL (`postgresql://user:password@h1:5432,h2:5432/name?target_session_attrs=read-write`) or a list of
keywords (`host=h1,h2 dbname=name`), as in https://www.postgresql.org/docs/current/libpq-connect.html (read 2026-11).
For all that it leaves out libpq reads environment variables (`PGSSLMODE` ...). Messages of errors are shown to people
and written to logs, so none has any part of an address.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

#: The parameters that have a fixed set of values: libpq refuses another value only when it connects.
_VALUES: Final[Mapping[str, Sequence[str]]] = {
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "load_balance_hosts": ("disable", "random"),
}
_MAX_PORT: Final = 65535
_FORMS: Final = "postgresql://user:password@host:port/name, or host=... dbname=... user=..."
#: An address of a list begins with a URL's scheme or with one of libpq's keywords: commas separate hosts, too.
_BEGINNING: Final = re.compile(
    r",\s*(?=postgres(?:ql)?://|(?:"
    + "|".join(option.keyword.decode() for option in pq.Conninfo.get_defaults())
    + ")=)"
)


def parse(address: str) -> dict[str, str]:
    """Return the parameters that an address has, by libpq's names.

    Several hosts stay one parameter, with commas. `options` has those of the variable PGOPTIONS where the address has
    none, as libpq reads it.

    Raises:
        ValueError: libpq could not connect with it, or we do not serve it. The message is a sentence without any part
            of the address.
    """
    if not address.strip():
        raise ValueError(f"it is empty; give the database's address: {_FORMS}.")
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(address).items()}
    except psycopg.ProgrammingError as error:
        # libpq quotes what it did not understand, which may be a part of the password.
        reason = str(error).partition('"')[0].strip(" :\n")
        said = "" if reason == "missing" else f" ({reason})"
        raise ValueError(f"this is no address of PostgreSQL{said}; write it as {_FORMS}.") from None
    _check(parameters)
    if "options" not in parameters and (options := os.environ.get("PGOPTIONS")):
        parameters["options"] = options
    return parameters


def split(addresses: str) -> list[str]:
    """Return the addresses of a list with commas, of which each may have several hosts with commas itself."""
    # A comma at the end is none between two addresses.
    found = [address.strip().strip(",").strip() for address in _BEGINNING.split(addresses)]
    return [address for address in found if address]


def shown(address: str) -> str:
    """Return the hosts and ports of an address for a log: `h1:5432, h2:5432`."""
    parameters = parse(address)
    hosts = _several(parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST") or "localhost")
    ports = _several(parameters.get("port") or os.environ.get("PGPORT") or "5432")
    if len(ports) < len(hosts):
        ports *= len(hosts)
    return ", ".join(f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=False))


def count_of_hosts(parameters: Mapping[str, object]) -> int:
    """Return how many hosts an address names, at least 1."""
    named = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST") or ""
    return len(_several(str(named)))


def _check(parameters: Mapping[str, str]) -> None:
    if "service" in parameters or "PGSERVICE" in os.environ:
        # libpq reads the file after it knows our own parameters, so that the file's `options` would be dropped.
        raise ValueError("a service file (service=, PGSERVICE) is not supported; write the parameters themselves.")
    hosts, addresses = _several(parameters.get("host", "")), _several(parameters.get("hostaddr", ""))
    ports = _several(parameters.get("port", ""))
    if "host" in parameters and "hostaddr" in parameters and len(hosts) != len(addresses):
        raise ValueError(f"it names {len(hosts)} hosts but {len(addresses)} addresses (hostaddr).")
    if 1 < len(ports) != max(len(hosts), len(addresses)):
        raise ValueError(f"it names {len(ports)} ports for {max(len(hosts), len(addresses))} hosts.")
    for port in ports:
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT):
            raise ValueError(f"a port in it is no number from 1 to {_MAX_PORT}.")
    for name, values in _VALUES.items():
        if name in parameters and parameters[name] not in values:
            raise ValueError(f"its {name} is none of {', '.join(values)}.")


def _several(value: str) -> list[str]:
    return value.split(",")
