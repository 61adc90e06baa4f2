"""A phase as Stripe shows it, in the form in which Stripe takes it back (KC-40): ids for objects, nothing for nulls."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from bursar.billing.stripe.schedules import SchedulePhase

Json = dict[str, Any]
Take = Callable[[Any], Any]


def sent_back(phase: SchedulePhase) -> Json:
    """The whole phase for an update of its schedule. The transition into it is never prorated."""
    whole = {"trial": True} if phase.trial else {}
    return {**_taken(_WHOLE, phase.model_dump()), **whole, "proration_behavior": "none"}


def lasting(phase: SchedulePhase) -> Json:
    """What a later phase shares with this one: how is paid, taxed and invoiced; not what is sold, nor discounts."""
    return _taken(_LASTING, phase.model_dump())


def _same(value: Any) -> Any:  # noqa: ANN401 - JSON
    return value


def _unix(instant: datetime) -> int:
    return int(instant.timestamp())


def _id(value: Any) -> Any:  # noqa: ANN401 - an id, or the object itself where expanded
    return value["id"] if isinstance(value, dict) else value


def _ids(values: Any) -> list[Any]:  # noqa: ANN401 - JSON
    return [_id(value) for value in values]


def _taken(fields: Mapping[str, Take], raw: Mapping[str, Any]) -> Json:
    """The named fields, each in its form; what is null or empty is left out."""
    return {name: take(raw[name]) for name, take in fields.items() if raw.get(name) not in (None, [], {}, ())}


def _object(fields: Mapping[str, Take]) -> Take:
    return lambda raw: _taken(fields, raw)


def _each(take: Take) -> Take:
    return lambda values: [take(value) for value in values]


def _discount(raw: Mapping[str, Any]) -> Json:
    """A running discount by its own id, so that it goes on and does not begin anew."""
    name = next(name for name in ("discount", "promotion_code", "coupon") if raw.get(name))
    return {name: _id(raw[name])}


_PARTY = _object({"type": _same, "account": _id})
_BOUND = _object({"type": _same, "timestamp": _same})
_DISCOUNTS = _each(_discount)
_ITEM = _object(
    {
        "price": _id,
        "quantity": _same,
        "discounts": _DISCOUNTS,
        "metadata": _same,
        "tax_rates": _ids,
        "billing_thresholds": _object({"usage_gte": _same}),
    }
)
_INVOICE_ITEM = _object(
    {
        "price": _id,
        "quantity": _same,
        "discounts": _DISCOUNTS,
        "metadata": _same,
        "tax_rates": _ids,
        "period": _object({"start": _BOUND, "end": _BOUND}),
    }
)
_INVOICE_SETTINGS = _object(
    {
        "account_tax_ids": _ids,
        "custom_fields": _each(_object({"name": _same, "value": _same})),
        "days_until_due": _same,
        "description": _same,
        "footer": _same,
        "issuer": _PARTY,
    }
)
_LASTING: Mapping[str, Take] = MappingProxyType(
    {
        "application_fee_percent": _same,
        "automatic_tax": _object({"enabled": _same, "liability": _PARTY}),
        "billing_thresholds": _object({"amount_gte": _same, "reset_billing_cycle_anchor": _same}),
        "collection_method": _same,
        "default_payment_method": _id,
        "default_tax_rates": _ids,
        "description": _same,
        "invoice_settings": _INVOICE_SETTINGS,
        "on_behalf_of": _id,
        "transfer_data": _object({"amount_percent": _same, "destination": _id}),
    }
)
_WHOLE: Mapping[str, Take] = MappingProxyType(
    {
        **_LASTING,
        "start_date": _unix,
        "end_date": _unix,
        "trial_end": _unix,
        "items": _each(_ITEM),
        "add_invoice_items": _each(_INVOICE_ITEM),
        "billing_cycle_anchor": _same,
        "discounts": _DISCOUNTS,
        "metadata": _same,
    }
)
