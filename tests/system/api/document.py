"""The OpenAPI document as the live system serves it, and a check of responses against it."""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from ingress.documents.openapi import path_of
from ingress.operations import Operation
from tests.support.client import Answer


class Document:
    """The document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def conforming(self, row: Operation, answer: Answer) -> None:
        """Check an answer of an operation: its status, its headers, and its body with every field in it."""
        described = self._described(row, answer.status)
        for name, header in described.get("headers", {}).items():
            if self._resolved(header).get("required"):
                assert name in answer.headers, f"{name} is missing"
        content = described.get("content")
        if content is None:
            assert answer.body is None
            return
        media = answer.headers["Content-Type"].partition(";")[0]
        self._check(content[media]["schema"], answer.body)

    def _described(self, row: Operation, status: int) -> Mapping[str, Any]:
        responses = self._document["paths"][path_of(row)][row.method.lower()]["responses"]
        assert str(status) in responses, f"{row.id} does not document {status}"
        return self._resolved(responses[str(status)])

    def _resolved(self, described: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in described:
            return described
        found: Any = self._document
        for part in described["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return dict(found)

    def _check(self, schema: Mapping[str, Any], body: Any) -> None:
        whole = {"$ref": "#/here", "here": schema, "components": self._document["components"]}
        Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(body)
