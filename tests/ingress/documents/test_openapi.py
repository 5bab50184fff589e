"""The OpenAPI document has everything of the table, and the application serves nothing that it lacks."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from pydantic import TypeAdapter

from ingress.documents.openapi import document, path_of
from ingress.http.models import words_of_patterns
from ingress.http.preferences import PREFER
from ingress.http.versions import IF_MATCH
from ingress.log.idempotency import IDEMPOTENCY_KEY
from ingress.operations import Operation
from tests.ingress.table import app, rows

#: The paths that are no operations: the first page, the documents, and the pages that show them.
ASSETS = {"/", "/openapi.json", "/docs", "/redoc", "/asyncapi.json", "/events", "/assets/{version}/{name}"}

each_operation = pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return document(rows())


def test_the_document_is_valid_openapi(openapi: dict[str, Any]) -> None:
    validate(openapi)


def test_the_document_is_the_same_each_time(openapi: dict[str, Any]) -> None:
    assert json.dumps(document(rows())) == json.dumps(openapi)


def test_every_route_of_the_application_is_an_operation_of_the_document_or_an_asset(openapi: dict[str, Any]) -> None:
    documented = {(method.upper(), _bare(path)) for path, item in openapi["paths"].items() for method in item}
    served = {
        (route.method, _bare(route.resource.canonical))
        for route in app().router.routes()
        if route.resource is not None and route.resource.canonical not in ASSETS
        if route.method != "HEAD"  # It is answered as GET is.
    }

    assert served == documented


def _bare(path: str) -> str:
    return re.sub(r"^/v\d+(?=/)", "", path)


def test_no_two_operations_have_one_id() -> None:
    assert [name for name, times in Counter(row.id for row in rows()).items() if times > 1] == []


@each_operation
def test_an_operation_has_a_summary_a_description_and_its_answers(row: Operation, openapi: dict[str, Any]) -> None:
    described = openapi["paths"][path_of(row)][row.method.lower()]

    assert described["summary"]
    assert described["description"]
    assert described["tags"][0] in {tag["name"] for tag in openapi["tags"]}
    assert min(row.responses) < 300
    assert row.example.status in row.responses


@each_operation
def test_an_operations_example_fits_the_document(row: Operation, openapi: dict[str, Any]) -> None:
    described = openapi["paths"][path_of(row)][row.method.lower()]
    headers = {name: value for name, value in row.example.headers.items() if name not in ("Accept", "Cookie")}
    given = {"path": row.example.path, "query": row.example.query, "header": headers}

    assert set(row.example.path) == set(row.placeholders)
    for place, values in given.items():
        schemas = {each["name"]: each["schema"] for each in described.get("parameters", ()) if each["in"] == place}
        required = {each["name"] for each in described.get("parameters", ()) if each.get("required")}
        assert set(values) <= set(schemas)
        assert {name for name in schemas if name in required} <= set(values)
        for name, value in values.items():
            several = schemas[name].get("type") == "array" and not isinstance(value, list)
            must_conform(openapi, schemas[name], [value] if several else value)
    if "requestBody" in described:
        must_conform(openapi, described["requestBody"]["content"]["application/json"]["schema"], row.example.body)
    else:
        assert row.example.body is None


@each_operation
def test_an_operation_not_for_everybody_is_refused_without_a_token_or_cookie(
    row: Operation, openapi: dict[str, Any]
) -> None:
    described = openapi["paths"][path_of(row)][row.method.lower()]

    for_everybody = described["security"] == [] or {} in described["security"]
    assert for_everybody == ("401" not in described["responses"]) or row.id == "log_in"


@each_operation
def test_a_command_can_be_waited_for_and_sent_again(row: Operation) -> None:
    assert (PREFER in row.headers) == (202 in row.responses)
    assert IDEMPOTENCY_KEY not in row.headers or PREFER in row.headers


@each_operation
def test_a_change_that_shows_a_version_can_insist_on_one(row: Operation) -> None:
    if row.method in ("PUT", "PATCH"):
        shows = any("ETag" in reply.headers for reply in row.responses.values())
        assert shows == (IF_MATCH in row.headers)


@each_operation
def test_links_lead_to_operations_and_fill_their_paths(row: Operation, openapi: dict[str, Any]) -> None:
    known = {each.id: each for each in rows()}
    for target, given in row.links.items():
        assert set(known[target].placeholders) <= set(given)
        fields = set(given) - set(known[target].placeholders)
        assert not fields or fields <= set(known[target].body.model_fields)
        for expression in given.values():
            assert re.fullmatch(r"\$request\.(path|query)\.\w+|\$response\.body#(/\w+)+", expression)


def test_bounds_of_numbers_that_may_be_strings_are_those_of_the_check(openapi: dict[str, Any]) -> None:
    properties = openapi["components"]["schemas"]["NewCode"]["properties"]
    percent, amount = (properties[name]["anyOf"][0] for name in ("percent", "amount"))
    number = {"type": "number", "exclusiveMinimum": 0}
    assert percent["anyOf"][0] == {**number, "maximum": 100}
    assert amount["anyOf"][0] == {**number, "maximum": 999_999_999_999}
    assert "at most 100" in percent["description"]
    assert "For the whole stay" in amount["description"]


def test_a_text_that_a_pattern_refuses_is_refused_in_words() -> None:
    schemas = [TypeAdapter(model).json_schema() for row in rows() for model in (row.body, row.query)]
    patterns = {pattern for schema in schemas for pattern in _patterns(schema)}
    assert patterns
    numbers = {pattern for pattern in patterns if r"\d" in pattern}
    assert patterns - numbers - words_of_patterns.keys() == set()


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for value in schema.values():
            yield from _patterns(value)
    elif isinstance(schema, list):
        for each in schema:
            yield from _patterns(each)


def test_no_answer_shows_a_password_or_what_guards_it(openapi: dict[str, Any]) -> None:
    inputs = {"Signup", "Login"}
    outputs = {name: schema for name, schema in openapi["components"]["schemas"].items() if name not in inputs}

    assert not re.search(r'"(password|password_hash|token_hash)"', json.dumps(outputs))


def must_conform(openapi: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Check a value against a schema of the document."""
    whole = {"$ref": "#/here", "here": schema, "components": openapi["components"]}
    Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)
