"""Validates requests to Stripe, and its stand-in's answers, against Stripe's own OpenAPI description."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest

from tests.sandbox.stripe_openapi import missing, validated_traffic


def validated_where_described(*, answers: bool = True) -> AbstractContextManager[object]:
    """Validate all traffic of the block; nothing where the description is not installed.

    tests/sandbox/test_stripe_openapi.py is skipped there, with the reason. `answers`: the answers are validated too.
    """
    return nullcontext() if missing() is not None else validated_traffic(answers=answers)


@pytest.fixture(autouse=True)
def stripe_knows_our_requests() -> Iterator[None]:
    """Validate each request to Stripe and its answer; a conftest imports this fixture for all tests beside it."""
    with validated_where_described():
        yield
