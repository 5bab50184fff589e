"""The table of operations, from an ingress that is put together and never started."""

from functools import cache

from aiohttp import web

from ingress.application import AREAS, create_app
from ingress.operations import Operation, operations_of
from ingress.settings import IngressSettings
from storage.settings import DatabaseSettings
from topics.kafka.settings import KafkaSettings


@cache
def app() -> web.Application:
    """Return the ingress; it is connected to nothing."""
    return create_app(
        IngressSettings(_env_file=None),
        KafkaSettings(_env_file=None),
        DatabaseSettings(_env_file=None),
        failed=lambda error: None,
    )


@cache
def rows() -> tuple[Operation, ...]:
    """Return all operations, in the order of the table."""
    return tuple(row for area in app()[AREAS] for _, row in operations_of(area))
