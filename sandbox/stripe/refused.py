"""An answer of the stand-in that is an error, in the form in which Stripe words its errors."""

from typing import Any

_DOCUMENTED_ERROR_CODES = "https://docs.stripe.com/error-codes#"


class Refused(Exception):
    """Ends a request with an error object: `{"error": {"type", "code", "message", "param"}}`.

    `saved`: whether an idempotency key remembers the error. Stripe does not remember what
    failed before the work began: unknown parameters, a wrong key, a rate limit
    (docs.stripe.com/api/idempotent_requests).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        decline_code: str | None = None,
        payment_intent: dict[str, Any] | None = None,
        message_code: str | None = None,
        saved: bool = True,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.decline_code = decline_code
        self.payment_intent = payment_intent
        self.message_code = message_code
        self.saved = saved

    def body(self) -> dict[str, Any]:
        """Give the JSON body; absent fields are left out, as Stripe leaves them out."""
        fields = {
            "code": self.code,
            "decline_code": self.decline_code,
            "doc_url": self.code and _DOCUMENTED_ERROR_CODES + self.code.replace("_", "-"),
            "message": self.message,
            "message_code": self.message_code,
            "param": self.param,
            "payment_intent": self.payment_intent,
            "type": self.kind,
        }
        return {"error": {name: value for name, value in fields.items() if value is not None}}


def no_such(kind: str, object_id: str, *, param: str = "id") -> Refused:
    """Refuse an id that names nothing: 404 `resource_missing`."""
    return Refused(f"No such {kind}: '{object_id}'", status=404, code="resource_missing", param=param)


def missing(param: str) -> Refused:
    """Refuse a request that lacks a parameter: 400 `parameter_missing`."""
    return Refused(f"Missing required param: {param}.", code="parameter_missing", param=param, saved=False)


def invalid(message: str, param: str, code: str | None = None) -> Refused:
    """Refuse a parameter's value before any work is done: 400."""
    return Refused(message, code=code, param=param, saved=False)
