"""The rules that wake somebody and the dashboard speak of metrics that exist, and each rule was seen to fire."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from telemetry.metrics import METRICS, Histogram
from topics.catalogue import CATALOGUE
from topics.messages.events import EVENTS

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
RULES_TEST = DEPLOY / "prometheus" / "alerts_test.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "innkeeper.json"
_PROMTOOL = shutil.which("promtool")
with_promtool = pytest.mark.skipif(
    _PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus (Debian)"
)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    shown = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [rule["expr"] for rule in rules()] + shown


def known() -> dict[str, set[str]]:
    """Return every name that Prometheus will find, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        labels = set(metric.labels)
        if isinstance(metric, Histogram):
            found |= {
                metric.name + "_bucket": labels | {"le"},
                metric.name + "_sum": labels,
                metric.name + "_count": labels,
            }
        else:
            found[metric.name] = labels
    return found


def test_every_metric_that_is_asked_for_exists() -> None:
    asked = {name for expression in expressions() for name in re.findall(r"innkeeper_\w+", expression)}
    assert asked
    assert asked - known().keys() == set()


def test_every_label_that_is_asked_for_is_one_of_its_metric() -> None:
    unknown = []
    for expression in expressions():
        for name, inside in re.findall(r"(innkeeper_\w+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))
            unknown += [f"{name}{{{label}}}" for label in labels - known()[name]]
    assert unknown == []


def test_every_event_type_in_an_expression_is_one_of_ours() -> None:
    message_types = {event.message_type for event in EVENTS}
    asked = {
        message_type
        for expression in expressions()
        for pattern in re.findall(r'event=~?"([^"]+)"', expression)
        for message_type in ([pattern] if pattern in message_types else _alternatives(pattern))
    }
    assert asked
    assert asked - message_types == set()


def test_the_dashboard_shows_every_metric_of_the_pipeline() -> None:
    shown = " ".join(expressions())
    not_shown = [metric.name for metric in METRICS if metric.name not in shown]
    # These name a process or help with a closer look; no rule needs them.
    assert set(not_shown) <= {
        "innkeeper_info",
        "innkeeper_search_loaded",
        "innkeeper_search_refresh_seconds",
        "innkeeper_run_records",
        "innkeeper_publish_seconds",
        "innkeeper_holds_asked_total",
    }


def test_every_rule_was_seen_to_fire_and_names_a_place_to_look() -> None:
    fired = {
        case["alertname"]
        for test in yaml.safe_load(RULES_TEST.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert {rule["alert"] for rule in rules()} == fired
    assert all(rule["labels"]["severity"] in {"page", "ticket"} for rule in rules())
    assert all({"summary", "look"} <= rule["annotations"].keys() for rule in rules())
    shown = set(re.findall(r"innkeeper tail ([a-z.]+)", RULES.read_text()))
    assert shown
    assert {topic.name for topic in CATALOGUE} >= shown


@with_promtool
def test_promtool_finds_no_fault_with_the_rules() -> None:
    assert _PROMTOOL is not None
    for arguments in (
        ("check", "rules", RULES.name),
        ("test", "rules", RULES_TEST.name),
        ("check", "config", "--syntax-only", "prometheus.yml"),
    ):
        done = subprocess.run([_PROMTOOL, *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _alternatives(pattern: str) -> list[str]:
    before, _, rest = pattern.partition("(")
    inside, _, after = rest.partition(")")
    return [before + word + after for word in inside.split("|")]
