"""Form-encoded parameters in Stripe's bracket notation: `phases[0][items][0][price]=…`, `expand[]=…`."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

MAX_FIELDS = 1_000
Params = Mapping[str, Any]


def decode(encoded: str) -> dict[str, Any]:
    """Nested dicts and lists; every leaf is a string, as sent."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(encoded, keep_blank_values=True, max_num_fields=MAX_FIELDS):
        first, *rest = name.replace("]", "").split("[")
        _put(tree, [first, *rest], value)
    return {name: _with_lists(value) for name, value in tree.items()}


def _put(tree: dict[str, Any], keys: list[str], value: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1] or str(len(tree))] = value


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    known = {name: _with_lists(one) for name, one in value.items()}
    if all(name.isdecimal() for name in known):
        return [known[name] for name in sorted(known, key=int)]
    return known


def number(params: Params, name: str) -> int | None:
    """An integer; None where it is absent or empty."""
    value = params.get(name)
    return int(value) if value not in (None, "") else None


def flag(params: Params, name: str, *, default: bool = False) -> bool:
    value = params.get(name)
    return default if value in (None, "") else str(value) == "true"


def changed(known: Mapping[str, str], sent: Any) -> dict[str, str]:
    """Metadata as an update leaves it: an empty value removes a key, an empty string all of them."""
    if sent == "":
        return {}
    return {name: value for name, value in {**known, **(sent or {})}.items() if value != ""}
