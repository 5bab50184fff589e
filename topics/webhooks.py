"""Stripe's webhooks as records of `stripe.webhooks`: every writer gives an event the same key, and so its partition."""

from typing import Final

from topics.envelope import Outgoing

_MAX_KEY: Final = 255
_CONTENT_TYPE: Final = ("content-type", b"application/json")


def webhook_record(
    topic: str,
    body: bytes,
    *,
    event_id: str,
    object_id: str | None,
    room_id: object,
    headers: tuple[tuple[str, bytes], ...] = (),
) -> Outgoing:
    """Return the record of a webhook: the bytes of Stripe's event, which its writer has from Stripe and nobody else.

    Args:
        topic: the topic's name on the broker.
        body: the event in JSON.
        event_id: the event's id.
        object_id: the id of the object that the event is about, if it has one.
        room_id: the metadata's `room_id`, of any type; None without one.
        headers: further headers.
    """
    named = room_id if isinstance(room_id, str) and room_id else object_id or event_id
    return Outgoing(topic, named[:_MAX_KEY].encode(), body, [_CONTENT_TYPE, *headers])
