"""The AsyncAPI document: right by AsyncAPI's own schema, whole, and true to every message's type and example."""

import gzip
import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7, DRAFT202012
from typer.testing import CliRunner

from operators.cli.main import app
from tests.contracts.check import frozen
from topics import asyncapi
from topics.catalogue import BOOKING_EVENTS, CATALOGUE
from topics.envelope import EVERY_VERSION
from topics.event_triggers import EVENT_TRIGGERS
from topics.messages.events import EVENTS

SCHEMA = Path(__file__).parents[1] / "asyncapi" / "asyncapi-3.0.0.json.gz"
DOCUMENT: dict[str, Any] = json.loads(asyncapi.PUBLISHED.read_text())
MESSAGES = DOCUMENT["components"]["messages"]

every_message = pytest.mark.parametrize("message_type", sorted(EVERY_VERSION))


@cache
def validator() -> jsonschema.Draft7Validator:
    """AsyncAPI's own schema; its references lead to itself and nowhere else."""
    schema = json.loads(gzip.decompress(SCHEMA.read_bytes()))
    registry: Registry[Any] = Resource.from_contents(schema, DRAFT7) @ Registry()
    return jsonschema.Draft7Validator(schema, registry=registry.crawl())


def problems(document: dict[str, Any]) -> list[str]:
    return [error.message for error in validator().iter_errors(document)]


def test_the_document_is_asyncapi() -> None:
    assert problems(DOCUMENT) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("info", "title"), None),
        (("asyncapi",), "2.6.0"),
        (("operations", "reservations.writes.booking.events", "action"), "publish"),
        (("channels", "booking.events", "bindings", "kafka", "partitions"), "many"),
        (("channels", "booking.events", "queue"), "events"),
        (("components", "schemas", "BookingReserved", "required"), "all"),
        (("components", "messages", "booking.reserved.v1", "examples", 0, "headers"), "none"),
    ],
)
def test_a_document_that_is_wrong_is_found_wrong(path: tuple[Any, ...], value: object) -> None:
    broken = deepcopy(DOCUMENT)
    part: Any = broken
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value

    assert problems(broken)


def test_the_published_document_is_the_one_that_the_code_makes() -> None:
    assert json.loads(json.dumps(asyncapi.document(frozen()))) == DOCUMENT


def test_everything_the_document_refers_to_is_in_it() -> None:
    for reference in references(DOCUMENT):
        part: Any = DOCUMENT
        assert reference.startswith("#/")
        for step in reference[2:].split("/"):
            part = part[step]


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


@every_message
def test_an_example_is_what_was_frozen_and_valid(message_type: str) -> None:
    (example,) = MESSAGES[message_type]["examples"]
    (trait,) = MESSAGES[message_type]["traits"]
    contract = frozen()[message_type]

    assert (example["headers"], example["payload"]) == (contract["headers"], contract["value"])
    valid(example["payload"], MESSAGES[message_type]["payload"])
    valid(example["headers"], {"$ref": f"{trait['$ref']}/headers"})
    valid(contract["key"], {"$ref": f"{trait['$ref']}/bindings/kafka/key"})


@every_message
def test_an_example_whose_key_is_a_text_is_not_valid(message_type: str) -> None:
    (example,) = MESSAGES[message_type]["examples"]
    key = next(name for name in ("room_id", "code_id", "hotel_id") if name in example["payload"])

    with pytest.raises(jsonschema.ValidationError):
        valid(example["payload"] | {key: "412"}, MESSAGES[message_type]["payload"])


def valid(value: object, reference: dict[str, str]) -> None:
    """Check a value against the schema that the document refers to."""
    checker = jsonschema.Draft202012Validator
    registry: Registry[Any] = Registry().with_resource("urn:document", Resource.from_contents(DOCUMENT, DRAFT202012))
    checker(
        {"$ref": f"urn:document{reference['$ref']}"}, registry=registry, format_checker=checker.FORMAT_CHECKER
    ).validate(value)


def test_every_topic_is_there_with_all_its_messages() -> None:
    assert list(DOCUMENT["channels"]) == [topic.name for topic in CATALOGUE]
    found = [message_type for channel in DOCUMENT["channels"].values() for message_type in channel["messages"]]
    assert sorted(found) == sorted(EVERY_VERSION)


def test_readers_and_writers_are_those_of_the_catalogue() -> None:
    readers = {
        operation.partition(".")[0]
        for operation, row in DOCUMENT["operations"].items()
        if row["action"] == "receive" and row["channel"]["$ref"].endswith(BOOKING_EVENTS.name)
    }

    assert readers == set(BOOKING_EVENTS.read_by)


def test_every_event_names_its_trigger() -> None:
    assert set(EVENT_TRIGGERS) == set(EVENTS)
    for kind in EVENTS:
        for each in asyncapi.versions(kind):
            assert MESSAGES[each.message_type]["x-when"].endswith(".")
            assert MESSAGES[each.message_type]["x-answers"]


def test_an_older_version_names_its_successor() -> None:
    assert MESSAGES["inventory.changed.v1"]["x-replaced-by"] == "inventory.changed.v2"
    assert "x-replaced-by" not in MESSAGES["inventory.changed.v2"]


def test_an_operator_prints_the_document() -> None:
    printed = CliRunner().invoke(app, ["topics", "asyncapi"])

    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == DOCUMENT
