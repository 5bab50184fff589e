"""The systems that serve most rows. A module of rows may have further groups of its own."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from sandbox import kafka, postgres
from sandbox.system import Plan
from tests.faults.row import Group
from tests.system.pipeline import chaos


def missing() -> str | None:
    """Return why this machine has no broker or no database of our own."""
    return kafka.available() or postgres.available()


def _one_broker(folder: Path) -> Plan:
    return chaos.plan(folder)


def _three_brokers(folder: Path) -> Plan:
    return chaos.plan(folder, brokers=3)


def _standby(folder: Path) -> Plan:
    return replace(chaos.plan(folder), standby=True)


ONE_BROKER: Final = Group(
    name="one-broker",
    system=f"one broker, one database, two workers of reservations, holds of {chaos.HOLD_SECONDS} s",
    plan=_one_broker,
    missing=missing,
)
THREE_BROKERS: Final = Group(
    name="three-brokers",
    system="three brokers with a replica of everything on each, of which two must have a record",
    plan=_three_brokers,
    missing=missing,
)
STANDBY: Final = Group(
    name="standby",
    system="one broker, a primary database and its synchronous standby",
    plan=_standby,
    missing=missing,
)
