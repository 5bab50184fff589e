"""The rights of the roles follow from the catalogue, and the catalogue follows from the code."""

import json
import shlex
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from operators.cli.main import app
from storage.settings import DatabaseSettings
from topics.catalogue import BOOKING_EVENTS, CATALOGUE, DEAD_LETTERS, STRIPE_WEBHOOKS, Service
from topics.kafka.acls import grants
from topics.kafka.settings import KafkaSettings
from workers import coordination, payments, projections
from workers.reservations import handler
from workers.runtime.role import Role

OURS = [service for service in Service if service.ours]


def rights(role: str, settings: KafkaSettings | None = None) -> dict[tuple[str, str], set[str]]:
    """Return the rights of a role, by kind and name of the resource."""
    found = grants(settings or KafkaSettings(_env_file=None))
    return {(grant.resource, grant.name): set(grant.operations) for grant in found if grant.role == role}


def test_the_ingress_and_reconciliation_may_write_webhooks_and_operators_play_them_again() -> None:
    assert STRIPE_WEBHOOKS.written_by == (Service.INGRESS, Service.RECONCILIATION)
    writers = [role for role in OURS if "Write" in rights(role).get(("topic", "stripe.webhooks"), set())]
    assert writers == ["ingress", "reconciliation", "operators"]


def test_each_role_has_the_rights_of_its_work_and_no_others() -> None:
    assert rights("reservations") == {
        ("topic", "booking.commands"): {"Read", "DescribeConfigs"},
        ("topic", "booking.events"): {"Write", "DescribeConfigs"},
        ("topic", "dead.letters"): {"Write", "DescribeConfigs"},
        ("group", "innkeeper-reservations"): {"Read"},
    }
    assert rights("expiry") == {
        ("topic", "booking.commands"): {"Write", "DescribeConfigs"},
        ("topic", "booking.events"): {"Describe", "DescribeConfigs"},
    }
    # It reads every partition, and belongs to no group.
    assert rights("reconciliation") == {
        ("topic", "booking.commands"): {"Write", "DescribeConfigs"},
        ("topic", "booking.events"): {"Describe", "DescribeConfigs"},
        ("topic", "stripe.webhooks"): {"Read", "Write", "DescribeConfigs"},
    }


def test_the_ingress_reads_what_it_shows_operators() -> None:
    assert all("Read" in rights("ingress")["topic", topic.name] for topic in CATALOGUE)
    assert "Write" not in rights("ingress")["topic", "dead.letters"]


def test_operators_make_and_read_every_topic_see_who_reads_and_write_what_is_played_again_alone() -> None:
    groups = ("reservations", "payments", "projections", "coordination")
    everywhere = {"Create", "Read", "DescribeConfigs"}
    again = {"booking.commands", "stripe.webhooks"}
    assert rights("operators") == {
        **{("topic", each.name): everywhere | ({"Write"} if each.name in again else set()) for each in CATALOGUE},
        **{("group", f"innkeeper-{group}"): {"Describe"} for group in groups},
    }


def test_outside_readers_get_their_rights_from_somebody_else() -> None:
    assert {grant.role for grant in grants(KafkaSettings(_env_file=None))} == set(OURS)
    assert Service.ANALYTICS in BOOKING_EVENTS.read_by


def test_systems_that_share_a_broker_do_not_share_their_rights() -> None:
    blue = KafkaSettings(_env_file=None, topic_prefix="blue.")

    assert all(name.startswith("blue.") for role in OURS for _, name in rights(role, blue))


@pytest.mark.parametrize("build", [handler.build, payments.build, projections.build, coordination.build])
def test_a_worker_reads_the_topics_of_the_catalogue(build: Callable[[KafkaSettings, DatabaseSettings], Role]) -> None:
    role = build(KafkaSettings(_env_file=None), DatabaseSettings(_env_file=None))

    assert set(role.topics) == {topic for topic in CATALOGUE if Service(role.name) in topic.read_by}
    # An event is never dead-lettered; every role that reads anything else may write dead letters.
    assert (Service(role.name) in DEAD_LETTERS.written_by) == any(topic is not BOOKING_EVENTS for topic in role.topics)


@pytest.mark.process
def test_a_person_gets_the_arguments_of_kafkas_own_tool() -> None:
    printed = CliRunner().invoke(app, ["topics", "acls"]).stdout.splitlines()

    expected = (
        "--add --allow-principal User:ingress --operation Read --operation Write --operation DescribeConfigs"
        " --topic stripe.webhooks"
    )
    assert expected in printed
    assert all(shlex.split(line)[0] == "--add" for line in printed)


@pytest.mark.process
def test_a_program_gets_an_object_a_line_with_the_brokers_own_names_of_the_roles() -> None:
    printed = (
        CliRunner().invoke(app, ["topics", "acls", "--json", "--principal", "User:CN={role},O=Inn"]).stdout.splitlines()
    )

    assert json.loads(printed[0]) == {
        "principal": "User:CN=ingress,O=Inn",
        "role": "ingress",
        "resource": "topic",
        "name": "booking.commands",
        "operations": ["Read", "Write", "DescribeConfigs"],
    }
