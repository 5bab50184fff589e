"""The settings of reconciliation, and the alert whose promise depends on them."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from workers.reconciliation.settings import ReconciliationSettings

ALERTS = Path(__file__).parents[3] / "deploy" / "prometheus" / "alerts.yml"


def settings(events_seconds: float) -> ReconciliationSettings:
    return ReconciliationSettings(
        _env_file=None, stripe_api_key=SecretStr("sk_test_1"), reconciliation_events_seconds=events_seconds
    )


def test_two_readings_of_stripes_events_are_always_shorter_than_the_alert_waits() -> None:
    longest = 120
    assert settings(longest).reconciliation_events_seconds == longest
    with pytest.raises(ValidationError, match="less than or equal to 120"):
        settings(longest + 1)

    found = re.search(r"max\(innkeeper_unreconciled_seconds\) > (\d+)", ALERTS.read_text(encoding="utf-8"))
    assert found is not None
    assert 2 * longest < int(found[1])
