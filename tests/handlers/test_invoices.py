"""An invoice is read from its bytes in one go: the same as by way of all its JSON, whatever stands in it (KC-36)."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import orjson
import pytest

from bursar.billing.credits.ledger import Credits
from bursar.billing.errors import UnreadableMessage
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.stripe.objects import InvoiceEvent
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.handlers.reading import view, view_of_json
from tests.billing.kiloclaw.making import CATALOGUE, NOW, event_json

DETAILS = {"subscription": "sub_1", "metadata": {"type": "kiloclaw", "funding": "credits"}}
LINE = {
    "period": {"start": 1_796_029_200, "end": 1_811_754_000},
    "pricing": {"price_details": {"price": "price_commit", "product": "prod_1"}},
    "parent": {"subscription_item_details": {"subscription": "sub_1", "proration": False}},
}
INVOICE: dict[str, Any] = {
    "id": "in_1",
    "customer": "cus_1",
    "status": "paid",
    "currency": "usd",
    "amount_due": 5_400,
    "amount_paid": 5_400,
    "metadata": {},
    "status_transitions": {"paid_at": 1_796_029_200},
    "parent": {"subscription_details": DETAILS},
    "lines": {"data": [LINE]},
    "payments": {"data": [{"payment": {"charge": "ch_1"}}]},
    "charge": None,
}
OLDER = {
    "parent": None,
    "subscription": "sub_1",
    "subscription_details": {"metadata": {"type": "kiloclaw"}},
    "charge": {"id": "ch_1", "object": "charge"},
    "lines": {"data": [{"period": LINE["period"], "price": {"id": "price_commit"}, "subscription": "sub_1"}]},
}
OTHER_LINE = {"price": "price_standard", **LINE, "subscription": "sub_2"}
BOTH = (
    INVOICE | OLDER | {"parent": INVOICE["parent"], "lines": {"data": [OTHER_LINE, dict(reversed(OTHER_LINE.items()))]}}
)
DIRECT = {"parent": {"subscription_details": DETAILS | {"metadata": {"funding": "direct"}}}}
MISSING = object()
INSTEAD: tuple[Any, ...] = (MISSING, None, True, 0, -1, 1.5, 2**62, "", "7", "née", [], [1], {}, {"id": "x"}, {"id": 7})


def altered() -> Iterator[dict[str, Any]]:
    """The invoice, today's and the older one, with each of its values replaced by each of those."""
    for whole in (INVOICE, INVOICE | OLDER, BOTH, dict(reversed(BOTH.items()))):
        for path in _paths(whole):
            for value in INSTEAD:
                invoice = deepcopy(whole)
                _put(invoice, path, value)
                yield invoice


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*path, name)
        yield from _paths(one, (*path, name))


def _put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    *way, last = path
    for name in way:
        value = value[name]
    if new is MISSING:
        del value[last]
    else:
        value[last] = new


def paid(invoice: dict[str, Any], event_type: str = "invoice.paid") -> bytes:
    return json.dumps(event_json(event_type, invoice, NOW, "evt_1")).encode()


def by_way_of_all_its_json(body: bytes) -> InvoiceEvent | str:
    try:
        return view(InvoiceEvent, orjson.loads(body))
    except (UnreadableMessage, orjson.JSONDecodeError) as error:
        return type(error).__name__


def in_one_go(body: bytes) -> InvoiceEvent | str:
    try:
        return view_of_json(InvoiceEvent, body)
    except UnreadableMessage as error:
        return "JSONDecodeError" if "not JSON" in str(error) else type(error).__name__


def test_kc_36_an_invoice_says_the_same_from_its_bytes_as_from_all_its_json() -> None:
    bodies = [paid(invoice) for invoice in altered()]
    read = [by_way_of_all_its_json(body) for body in bodies]

    assert [in_one_go(body) for body in bodies] == read
    assert any(isinstance(one, str) for one in read)
    assert any(isinstance(one, InvoiceEvent) for one in read)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", paid(INVOICE)[:-1], b"[" * 100_000, b'"\\ud800"'])
def test_ms_6_what_is_no_json_is_no_invoice(body: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        view_of_json(InvoiceEvent, body)


@pytest.mark.parametrize(
    ("event_type", "changes", "parts"),
    [
        ("invoice.paid", {}, {Hosting, Credits}),
        ("invoice.paid", OLDER, {Hosting, Credits}),
        ("invoice.paid", DIRECT, {Hosting}),
        ("invoice.paid", {"parent": None}, {Hosting}),
        ("invoice.payment_failed", {}, {Hosting}),
    ],
)
def test_kc_21_the_ledger_is_loaded_for_what_may_be_settled(
    event_type: str, changes: dict[str, Any], parts: set[type]
) -> None:
    message = ReceivedMessage("evt_1", f"stripe.{event_type}", "user:ada", paid(INVOICE | changes, event_type))

    assert item_of(message, "user:ada", CATALOGUE).parts == parts


@pytest.mark.parametrize("changes", [{}, OLDER])
def test_kc_121_an_invoice_bears_the_name_of_its_subscription(changes: dict[str, Any]) -> None:
    message = ReceivedMessage("evt_1", "stripe.invoice.paid", "user:ada", paid(INVOICE | changes))

    assert item_of(message, "user:ada", CATALOGUE).names == {"subscription:sub_1"}
