"""Turns form-encoded requests into typed parameters, checked against the SDK's own types.

Stripe's API takes `line_items[0][price_data][currency]=eur`. The parameters of a request are
those of the typed params that the `stripe` package generates from Stripe's OpenAPI description, so
that a parameter Stripe does not know is refused here as it is refused there.
"""

import re
import sys
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from functools import cache
from types import SimpleNamespace, UnionType
from typing import (
    Any,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from stripe import RequestOptions

from sandbox.stripe.refused import Refused, invalid, missing

Tree: TypeAlias = "str | dict[str, Tree]"
"""A decoded form: lists are still objects with the keys 0, 1, 2, as they travel."""

_MAX_METADATA_KEYS = 50
_MAX_METADATA_KEY = 40
_MAX_METADATA_VALUE = 500


def typed_params(form: dict[str, Tree], params_type: Any) -> dict[str, Any]:
    """Check a decoded form against one of the SDK's params types and give typed values.

    Raises Refused for unknown and missing parameters and for values of the wrong kind.
    """
    checked: dict[str, Any] = _object(params_type, form, "")
    return checked


def decode_form(pairs: Iterable[tuple[str, str]]) -> dict[str, Tree]:
    """Nest names with brackets: `a[b]=1` gives `{"a": {"b": "1"}}`."""
    root: dict[str, Tree] = {}
    for name, value in pairs:
        first, *rest = re.split(r"\]\[|\[", name.removesuffix("]"))
        _put(root, [first, *rest], value, name)
    return root


def _put(into: dict[str, Tree], path: list[str], value: str, name: str) -> None:
    key, rest = path[0], path[1:]
    if not key:
        key = _next_index(into, rest)
    if not rest:
        into[key] = value
        return
    child = into.setdefault(key, {})
    if isinstance(child, str):
        raise invalid(f"Invalid parameters: {name} is both a value and an object", name)
    _put(child, rest, value, name)


def _next_index(into: dict[str, Tree], rest: list[str]) -> str:
    """Give the index of an item written as `a[]`: the last one, if it only adds a field to it."""
    last = str(len(into) - 1)
    if rest and last in into and not _holds(into[last], rest):
        return last
    return str(len(into))


def _holds(tree: Tree, path: list[str]) -> bool:
    """Return whether a path has a value already."""
    for name in path:
        if isinstance(tree, str):
            return True
        if name not in tree:
            return False
        tree = tree[name]
    return True


def _is_params(expected: Any) -> bool:
    """Return whether it is a typed dictionary of the SDK, which may be one of `typing_extensions`."""
    return isinstance(expected, type) and hasattr(expected, "__required_keys__")


def _checked(expected: Any, value: Tree, path: str) -> Any:
    origin = get_origin(expected)
    if origin in (Union, UnionType):
        return _union(get_args(expected), value, path)
    if _is_params(expected):
        return _object(expected, value, path)
    if origin is list:
        return _list(get_args(expected)[0], value, path)
    if origin is dict:
        return _metadata(value, path)
    if origin is Literal:
        return _one_of(get_args(expected), value, path)
    return _scalar(expected, value, path)


def _object(expected: Any, value: Tree, path: str) -> dict[str, Any]:
    if isinstance(value, str):
        raise invalid(f"Invalid object: {value}", path)
    fields = _fields(expected)
    for name in value:
        if name not in fields:
            unknown = _join(path, name)
            raise invalid(f"Received unknown parameter: {unknown}", unknown, "parameter_unknown")
    for name in expected.__required_keys__:
        if name not in value:
            raise missing(_join(path, name))
    return {name: _checked(fields[name], item, _join(path, name)) for name, item in value.items()}


@cache
def _fields(params_type: Any) -> dict[str, Any]:
    """Resolve the annotations of a params type, without what only concerns the SDK itself."""
    own = {
        name: annotation
        for name, annotation in params_type.__annotations__.items()
        if name not in RequestOptions.__annotations__
    }
    names = vars(sys.modules[params_type.__module__])
    return get_type_hints(SimpleNamespace(__annotations__=own), names)


def _list(expected: Any, value: Tree, path: str) -> list[Any]:
    if isinstance(value, str) or not all(key.isdecimal() for key in value):
        raise invalid("Invalid array", path)
    return [_checked(expected, value[key], f"{path}[{key}]") for key in sorted(value, key=int)]


def _metadata(value: Tree, path: str) -> dict[str, str]:
    """Check key-value pairs against the limits of docs.stripe.com/api/metadata."""
    if isinstance(value, str):
        raise invalid(f"Invalid object: {value}", path)
    if len(value) > _MAX_METADATA_KEYS:
        raise invalid(f"Metadata can have up to {_MAX_METADATA_KEYS} keys", path)
    kept: dict[str, str] = {}
    for key, text in value.items():
        at = _join(path, key)
        if not isinstance(text, str):
            raise invalid("Metadata values must be strings", at)
        if len(key) > _MAX_METADATA_KEY:
            raise invalid(f"Metadata keys can have up to {_MAX_METADATA_KEY} characters", at)
        if len(text) > _MAX_METADATA_VALUE:
            raise invalid(f"Metadata values can have up to {_MAX_METADATA_VALUE} characters", at)
        if text:
            kept[key] = text
    return kept


def _union(members: tuple[Any, ...], value: Tree, path: str) -> Any:
    """Check a value against the first member of a union that is of its shape."""
    literals = [choice for m in members if get_origin(m) is Literal for choice in get_args(m)]
    if isinstance(value, dict):
        shaped = [m for m in members if _is_params(m) or get_origin(m) in (list, dict)]
    elif value in literals:
        return value
    else:
        choices = [choice for choice in literals if choice]
        if choices:
            # The SDK adds `str` to closed choices for later versions of the API; ours is pinned.
            return _one_of(tuple(choices), value, path)
        shaped = [m for m in members if not (_is_params(m) or get_origin(m))]
    if not shaped:
        raise invalid("Invalid object" if isinstance(value, str) else "Invalid string", path)
    return _checked(shaped[0], value, path)


def _one_of(choices: tuple[Any, ...], value: Tree, path: str) -> Any:
    if value not in choices:
        listed = ", ".join(str(choice) for choice in choices)
        raise invalid(f"Invalid {path}: must be one of {listed}", path)
    return value


def _scalar(expected: Any, value: Tree, path: str) -> Any:
    if isinstance(value, dict):
        raise invalid("Invalid string: an object was given", path)
    if not value:
        raise invalid(f"You passed an empty string for '{path}'.", path, "parameter_invalid_empty")
    if expected is int:
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise invalid(f"Invalid integer: {value}", path, "parameter_invalid_integer")
        return int(value)
    if expected is bool:
        return _one_of(("true", "false"), value, path) == "true"
    if expected is Decimal:
        return _decimal(value, path)
    if expected is str:
        return value
    raise Refused(f"The stand-in cannot read {path}.", param=path, saved=False)


def _decimal(value: str, path: str) -> Decimal:
    try:
        return Decimal(value)
    except InvalidOperation:
        raise invalid(f"Invalid decimal: {value}", path) from None


def _join(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name
