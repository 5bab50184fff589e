"""Stripe's webhooks as far as they are read here, and the response to them."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from ingress.http.models import OutModel


class _StripeModel(BaseModel):
    """The fields of a webhook that are read here; Stripe sends many more."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class StripeObject(_StripeModel):
    """The object that the webhook is about: the fields that choose its partition."""

    id: str | None = None
    metadata: dict[str, Any] | None = None


class StripeData(_StripeModel):
    """The part of a webhook that has its object."""

    object: StripeObject


class StripeEvent(_StripeModel):
    """A webhook."""

    id: str
    type: str
    data: StripeData


class Received(OutModel):
    """The webhook is on the log."""

    received: bool
