"""Responses to requests that may wait for their decision: 202 while it follows, and what the others document."""

from collections.abc import Mapping
from typing import Final, Protocol

from ingress.http.responses import Response, json_response

ACCEPTED: Final = "Accepted; the decision follows."
ACCEPTED_HEADERS: Final = {
    "Location": "The address at which the decision can be read.",
    "Retry-After": "In how many seconds to ask.",
}
WAITED_HEADERS: Final = {"Preference-Applied": "How long the request may have waited for this."}


class Waiting(Protocol):
    """The request at hand."""

    @property
    def wait_seconds(self) -> float:
        """For how long the request waits for its decision."""
        ...

    def link(self, path: str) -> str:
        """Return the address of a path."""
        ...


def accepted(context: Waiting, body: object, path: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return 202; `path` is where the decision can be read."""
    return json_response(202, body, {"Location": context.link(path), "Retry-After": "1", **(headers or {})})


def waited_headers(context: Waiting) -> dict[str, str]:
    """Return the header of a response for which the request waited."""
    return {"Preference-Applied": f"wait={context.wait_seconds}"}
