"""Stripe's own OpenAPI description, against which requests and answers are validated.

The Go module github.com/stripe/stripe-mock embeds it; `.ci/install` fetches the module (2.5 MB, a second) where Go is
installed. Nothing of it is in this repository. Its API version may be a little older than ours: `NEWER` lists what
it does not know yet.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx
import jsonschema
import pytest
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from sandbox.stripe import api
from sandbox.stripe.forms import decode_form, typed_params

MODULE: Final = "github.com/stripe/stripe-mock@v0.203.0"
API_VERSION: Final = "2026-08-26.dahlia"
#: Parameters of the pinned API version that the description does not have.
NEWER: Final = frozenset({"allowed_payment_method_types"})
_MAX_WAIT_SECONDS: Final = 60
_URI: Final = "urn:stripe"


@cache
def folder() -> Path | None:
    """Return the module's folder in Go's cache, without a network; None if it is not there."""
    if shutil.which("go") is None:
        return None
    command = ["go", "mod", "download", "-json", MODULE]
    found = subprocess.run(
        ["env", "GOPROXY=off", "GOFLAGS=-mod=mod", *command],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=_MAX_WAIT_SECONDS,
        check=False,
    )
    return Path(json.loads(found.stdout)["Dir"]) if found.returncode == 0 else None


def missing() -> str | None:
    """Return the reason for which nothing can be validated; None if everything is there."""
    if shutil.which("go") is None:
        return "Go is not installed, which fetches Stripe's OpenAPI description"
    if folder() is None:
        return f"Stripe's OpenAPI description is not there: go mod download {MODULE} fetches it"
    return None


class Description:
    """The description of the API, with `null` where a field may be null."""

    def __init__(self, file: Path) -> None:
        self._document = _with_nulls(json.loads(file.read_text()))
        resource = DRAFT202012.create_resource(self._document)
        self._registry: Registry[Any] = Registry().with_resource(_URI, resource).crawl()
        self.version: str = self._document["info"]["version"]
        self._paths = [(_pattern(path), item) for path, item in self._document["paths"].items()]

    def check_request(self, method: str, path: str, params: dict[str, Any]) -> None:
        """Check typed parameters of a request. Raises AssertionError for a parameter that Stripe does not take."""
        operation = self._operation(method, path)
        known = {name: value for name, value in params.items() if name not in NEWER}
        if method == "GET":
            schemas = {given["name"]: given["schema"] for given in operation["parameters"] if given["in"] == "query"}
            schema = {"type": "object", "properties": schemas, "additionalProperties": False}
        else:
            schema = operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
        self._check(schema, known, f"request {method} {path}")

    def check_answer(self, method: str, path: str, status: int, body: Any) -> None:
        """Check the body of an answer, an error's too. Raises AssertionError for one that Stripe would not give."""
        responses = self._operation(method, path)["responses"]
        response = responses.get(str(status), responses["default"])
        self._check(response["content"]["application/json"]["schema"], body, f"answer {status} to {method} {path}")

    def check_event(self, event: Any) -> None:
        """Check an event and the object that it carries."""
        self._check({"$ref": f"{_URI}#/components/schemas/event"}, event, event["type"])
        about = event["data"]["object"]
        self._check({"$ref": f"{_URI}#/components/schemas/{about['object']}"}, about, event["type"])

    def _operation(self, method: str, path: str) -> Any:
        # A path without parameters comes first: `/v1/refunds/{refund}` would take others for an id.
        found = [
            item[method.lower()] for pattern, item in self._paths if pattern.fullmatch(path) if method.lower() in item
        ]
        assert found, f"Stripe has no {method} {path}"
        return found[0]

    def _check(self, schema: Any, value: Any, about: str) -> None:
        errors = [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
            for error in jsonschema.Draft202012Validator(schema, registry=self._registry).iter_errors(value)
        ]
        assert not errors, f"{about}\n" + "\n".join(errors)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path))


def _with_nulls(node: Any) -> Any:
    """Allow `null` by a schema's type where OpenAPI 3.0 marks it as nullable, which JSON Schema does not know."""
    if isinstance(node, list):
        return [_with_nulls(item) for item in node]
    if not isinstance(node, dict):
        return node
    copied = {name: _with_nulls(value) for name, value in node.items()}
    if isinstance(reference := copied.get("$ref"), str):
        copied["$ref"] = _URI + reference
    if copied.get("nullable") is True:
        return {"anyOf": [copied, {"type": "null"}]}
    return copied


@cache
def description() -> Description:
    """Return the description, read once a process."""
    found = folder()
    assert found is not None, missing()
    return Description(found / "embedded/openapi/spec3.json")


class Traffic:
    """The requests to Stripe's API of a test, and their answers, as they pass httpx.

    `answers`: the answers are validated too.
    """

    def __init__(self, *, answers: bool = True) -> None:
        self._answers = answers
        self.paths: list[str] = []
        self.problems: list[str] = []

    def pass_by(self, request: httpx.Request, response: httpx.Response) -> None:
        """Validate a request and its answer."""
        path = urlsplit(str(request.url)).path
        if not path.startswith("/v1/"):
            return
        text = request.content.decode() if request.method == "POST" else urlsplit(str(request.url)).query
        endpoint = next(e for e in api.ENDPOINTS if e.method == request.method and _pattern(e.path).fullmatch(path))
        self.paths.append(f"{request.method} {endpoint.path}")
        params = typed_params(decode_form(parse_qsl(text, keep_blank_values=True)), endpoint.params)
        described = description()
        try:
            described.check_request(request.method, path, params)
            if self._answers:
                described.check_answer(request.method, path, response.status_code, response.json())
        except AssertionError as problem:
            # Raised here, it would be taken for a failure of the network, and the request would be repeated.
            self.problems.append(str(problem))


@contextmanager
def validated_traffic(*, answers: bool = True) -> Iterator[Traffic]:
    """Validate every request to Stripe's API, by whichever client, and its answer; asserts at the end."""
    seen = Traffic(answers=answers)
    send = httpx.AsyncClient.send

    async def validated(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await send(self, request, **options)
        await response.aread()
        seen.pass_by(request, response)
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.AsyncClient, "send", validated)
        yield seen
    assert not seen.problems, "\n".join(dict.fromkeys(seen.problems))
