"""An invoice in today's shape is read in one go: as the views of all its JSON say, whatever stands in it (KC-36)."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import orjson
import pytest

from bursar.billing.credits.ledger import Credits
from bursar.billing.errors import UnreadableMessage
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.stripe.invoices import InvoiceEvent
from bursar.billing.stripe.objects import API_VERSION, StripeInvoiceEvent
from bursar.billing.stripe.usual_invoices import usual_invoice_event
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.handlers.reading import view
from bursar.service.demo.generator import generated_lives
from bursar.service.demo.lives import all_events, recorded_lives
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
UNSHOWN = {name: value for name, value in INVOICE.items() if name != "payments"}
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
NUMBERS = (0, -1, 1.0, 1.5, 20_000_000_000, 20_000_000_001, 2**53, 2**62, 2**80)
FIRST_INSTANT = "0001-01-01T00:00:00+14:00"  # in UTC there is no such year
TEXTS = ("", "7", "née", "\ud800", "\0", FIRST_INSTANT)
INSTEAD: tuple[Any, ...] = (MISSING, None, True, *NUMBERS, *TEXTS, [], [1], {}, {"id": "x"}, {"id": 7}, {"data": []})
LIVES = recorded_lives() or generated_lives()
DEEP = b'{"data":' + b"[" * 100_000


def altered() -> Iterator[dict[str, Any]]:
    """The invoice, today's and the older one, with each of its values replaced by each of those."""
    for whole in (
        UNSHOWN,
        UNSHOWN | {name: OLDER[name] for name in ("parent", "subscription", "subscription_details")},
        INVOICE,
        INVOICE | OLDER,
        BOTH,
        dict(reversed(BOTH.items())),
    ):
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


def as_the_views_say(body: bytes) -> InvoiceEvent | None:
    try:
        return view(StripeInvoiceEvent, orjson.loads(body)).read()
    except (UnreadableMessage, orjson.JSONDecodeError):
        return None


def test_kc_36_what_is_read_in_one_go_is_what_the_views_say() -> None:
    bodies = [paid(invoice) for invoice in altered()]
    in_one_go = [(read, body) for body in bodies if (read := usual_invoice_event(body))]

    assert 100 < len(in_one_go) < len(bodies)
    for read, body in in_one_go:
        assert read == as_the_views_say(body), body


def test_kc_36_every_invoice_as_stripe_sends_it_today_is_read_in_one_go() -> None:
    invoices = [one for one in all_events(LIVES) if one["data"]["object"]["object"] == "invoice"]
    today = [one for one in invoices if one["api_version"] == API_VERSION]

    assert today
    for event in today:
        body = orjson.dumps(event)
        assert usual_invoice_event(body) == as_the_views_say(body) is not None, event["id"]


def test_kc_36_an_event_of_no_instant_is_unreadable() -> None:
    event = event_json("invoice.paid", INVOICE, NOW, "evt_1") | {"created": FIRST_INSTANT}
    message = ReceivedMessage("evt_1", "stripe.invoice.paid", "user:ada", orjson.dumps(event))

    with pytest.raises(UnreadableMessage):
        item_of(message, "user:ada", CATALOGUE)


@pytest.mark.parametrize("place", [b'"usd"', b'"prod_1"', b'"product"'])
def test_ms_6_what_is_no_utf_8_is_no_invoice_wherever_it_stands(place: bytes) -> None:
    body = paid(UNSHOWN)
    assert body.count(place) == 1
    message = ReceivedMessage("evt_1", "stripe.invoice.paid", "user:ada", body.replace(place, b'"\xff"'))

    with pytest.raises(UnreadableMessage):
        item_of(message, "user:ada", CATALOGUE)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", paid(INVOICE)[:-1], b"[" * 100_000, DEEP, b'"\\ud800"'])
def test_ms_6_what_is_no_json_is_no_invoice(body: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        item_of(ReceivedMessage("evt_1", "stripe.invoice.paid", "user:ada", body), "user:ada", CATALOGUE)


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


def test_cr_53_an_invoice_asks_the_ledger_about_its_payment_by_both_its_names() -> None:
    message = ReceivedMessage("evt_1", "stripe.invoice.paid", "user:ada", paid(INVOICE))

    assert item_of(message, "user:ada", CATALOGUE).payments == frozenset({"in_1", "ch_1"})
