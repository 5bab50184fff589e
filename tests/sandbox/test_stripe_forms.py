"""Form-encoded parameters against the SDK's types: the stand-in refuses those that Stripe would."""

from typing import Any
from urllib.parse import parse_qsl

import pytest
from stripe.params import EventListParams, RefundCreateParams
from stripe.params.checkout import SessionCreateParams, SessionListParams

from sandbox.stripe.forms import decode_form, typed_params
from sandbox.stripe.refused import Refused


def read(text: str, params: Any = SessionCreateParams) -> dict[str, Any]:
    return typed_params(decode_form(parse_qsl(text, keep_blank_values=True)), params)


def test_brackets_nest_and_numbers_are_typed() -> None:
    text = "line_items[0][quantity]=2&line_items[0][price_data][currency]=eur&metadata[booking]=b&expires_at=99"

    assert read(text) == {
        "line_items": [{"quantity": 2, "price_data": {"currency": "eur"}}],
        "metadata": {"booking": "b"},
        "expires_at": 99,
    }


def test_lists_may_be_written_without_numbers() -> None:
    text = "line_items[][quantity]=1&line_items[][price]=a&line_items[][quantity]=2&expand[]=x&expand[]=y"

    assert read(text) == {"line_items": [{"quantity": 1, "price": "a"}, {"quantity": 2}], "expand": ["x", "y"]}


def test_items_keep_their_order_beyond_ten() -> None:
    text = "&".join(f"line_items[{i}][quantity]={i}" for i in reversed(range(12)))

    assert [item["quantity"] for item in read(text)["line_items"]] == list(range(12))


def test_a_moment_or_a_range_of_moments_is_taken() -> None:
    assert read("created=5", SessionListParams) == {"created": 5}
    assert read("created[gte]=5", SessionListParams) == {"created": {"gte": 5}}
    assert read("delivery_success=false", EventListParams) == {"delivery_success": False}


def test_metadata_can_be_emptied() -> None:
    assert read("metadata[a]=&metadata[b]=1") == {"metadata": {"b": "1"}}
    assert read("metadata=", RefundCreateParams) == {"metadata": ""}


@pytest.mark.parametrize(
    ("text", "param", "code"),
    [
        ("nonsense=1", "nonsense", "parameter_unknown"),
        ("payment_intent_data[nonsense]=1", "payment_intent_data[nonsense]", "parameter_unknown"),
        ("line_items[0][price_data][unit_amount]=1", "line_items[0][price_data][currency]", "parameter_missing"),
        ("expires_at=soon", "expires_at", "parameter_invalid_integer"),
        ("success_url=", "success_url", "parameter_invalid_empty"),
        ("mode=gift", "mode", None),
        ("api_key=sk_test_1", "api_key", "parameter_unknown"),
        ("line_items=1", "line_items", None),
        ("line_items[a]=1", "line_items", None),
        ("success_url[a]=1", "success_url", None),
        ("allow_promotion_codes=yes", "allow_promotion_codes", None),
        ("metadata=text", "metadata", None),
        ("metadata[a][b]=1", "metadata[a]", None),
        ("metadata[" + "k" * 41 + "]=1", "metadata[" + "k" * 41 + "]", None),
        ("metadata[a]=" + "v" * 501, "metadata[a]", None),
        ("mode=payment&mode[a]=1", "mode[a]", None),
    ],
)
def test_a_form_that_stripe_would_refuse_is_refused(text: str, param: str, code: str | None) -> None:
    with pytest.raises(Refused) as raised:
        read(text)

    assert (raised.value.param, raised.value.code, raised.value.status) == (param, code, 400)
    assert not raised.value.saved
