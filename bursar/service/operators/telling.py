"""Links of an account's story as sentences for people who answer its customers."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from bursar.billing.credits.ledger import in_dollars
from bursar.db.chain import FollowedStep, SetAside
from bursar.db.history import HistoryEntry
from bursar.service.mail.render import clock_time, day
from bursar.service.observability.redaction import redact_text
from bursar.service.operators.explaining import Booking, Link

BOOKKEEPING = frozenset({"version", "last_stripe_event_at", "last_read_at", "done_generation", "generation"})
_TICK = re.compile(r"tick:(?P<sweep>\w+):(?P<due_at>.+?):(?:user|customer):.*")
_CAUSES: Mapping[str, str] = MappingProxyType(
    {
        "command:": "request of the product",
        "instance:": "answer of the instance API",
        "step:mail:": "outcome of a mail",
        "step:operation:": "end of a change at Stripe",
        "step:keep-schedule:": "end of a change at Stripe",
        "step:top-up": "end of an automatic top-up",
        "step:": "answer of Stripe",
        "evt_": "Stripe event ",
    }
)
_MAIL_STATES: Mapping[str, str] = MappingProxyType(
    {
        "pending": "waits to be sent",
        "sent": "sent",
        "skipped": "not sent yet, for want of an address or a provider",
        "rejected": "rejected by the provider",
        "unknown": "handed over, outcome unknown",
        "failed": "not sent: the provider did not take it within its attempts",
        "dropped": "not sent, since it was no longer true",
    }
)
_OPERATION_STATES: Mapping[str, str] = MappingProxyType(
    {
        "due": "under way",
        "done": "ended",
        "failed": "left to an operator",
    }
)
_DESIRED: Mapping[str, str] = MappingProxyType(
    {
        "running": "instance to be started",
        "stopped": "instance to be stopped",
        "destroyed": "instance to be destroyed",
    }
)


def sentence(link: Link) -> str:
    """One line: when, what, why, because of what, and what followed. No addresses."""
    parts = [_decision(link)] if link.changes else []
    parts += [_booking(one) for one in link.bookings]
    parts += [_set_aside(link.set_aside)] if link.set_aside else []
    parts += [_step(step) for step in link.steps]
    if not link.changes:
        parts[0] += f" ({told_cause(link.cause)})"
    return redact_text(f"{moment(link.at)}  {'; '.join(parts)}")


def moment(instant: datetime) -> str:
    """Such as `1 July 2026 09:00 UTC`."""
    return f"{day(instant)} {clock_time(instant)}"


def told_cause(cause: str) -> str:
    """What caused a decision, in words."""
    tick = _TICK.fullmatch(cause)
    if tick:
        return f"tick {tick['sweep']} of {moment(datetime.fromisoformat(tick['due_at']))}"
    for prefix, words in _CAUSES.items():
        if cause.startswith(prefix):
            return words + cause if words.endswith(" ") else words
    return cause


def _decision(link: Link) -> str:
    phrases = list(dict.fromkeys(phrase for change in link.changes for phrase in _phrases(change)))
    reasons = "; ".join(dict.fromkeys(change.reason for change in link.changes if change.reason))
    told = ", ".join(phrases) or "looked at, nothing else changed"
    return f"{told}: {reasons} ({told_cause(link.cause)})" if reasons else f"{told} ({told_cause(link.cause)})"


def _phrases(change: HistoryEntry) -> Iterator[str]:
    if change.entity == "kiloclaw_instances":
        yield from _of_instance(change)
    elif change.before is None:
        yield f"{change.after.get('plan')} subscription made, {change.after.get('status')}"
    else:
        yield from (phrase for name in change.after for phrase in _of_field(name, change.before, change.after))


def _of_instance(change: HistoryEntry) -> Iterator[str]:
    after = change.after
    if change.before is None:
        yield f"instance {change.entity_id} made"
    elif after.get("destroyed_at"):
        yield "instance destroyed"
    elif after.get("destroying_since"):
        yield "instance marked for destruction"
    elif "desired_state" in after:
        yield _DESIRED[after["desired_state"]]
    elif "done_generation" in after:
        yield "instance is as it should be"


def _of_field(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    was, becomes = before.get(name), after[name]
    match name:
        case "suspended_at":
            yield "suspended" if becomes else "suspension lifted"
        case "destruction_deadline":
            yield f"instance to be destroyed after {_told(becomes)}" if becomes else "destruction no longer due"
        case "cancel_at_period_end":
            yield "cancellation pending" if becomes else "cancellation withdrawn"
        case "current_period_end":
            yield f"paid until {_told(becomes)}"
        case _ if name not in BOOKKEEPING:
            yield f"{name.replace('_', ' ')} now {_told(becomes)}, was {_told(was)}"


def _told(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        return moment(datetime.fromisoformat(value))
    return str(value)


def _booking(booking: Booking) -> str:
    entry = booking.entry
    amount = f"{'+' if entry.amount_microdollars > 0 else ''}{in_dollars(entry.amount_microdollars)}"
    payment = f" ({entry.payment_id})" if entry.payment_id else ""
    balance = in_dollars(booking.balance_microdollars)
    return f"{entry.kind.replace('_', ' ')} {amount} for {entry.description}{payment}, balance {balance}"


def _step(step: FollowedStep) -> str:
    error = f": {step.error}" if step.error else ""
    if step.kind == "send_mail":
        return f"mail {step.mail} {_MAIL_STATES.get(step.state, step.state)}{error}"
    if step.operation:
        return f"{step.operation.replace('_', ' ')} at Stripe: {_OPERATION_STATES.get(step.state, step.state)}{error}"
    asked_for = "the subscriptions" if step.kind == "read_subscriptions" else step.kind.replace("_", " ")
    return f"Stripe was asked for {asked_for}: {step.state}{error}"


def _set_aside(message: SetAside) -> str:
    words = "is tried again soon" if message.state == "retrying" else "waits for an operator"
    return f"{message.type} could not be handled and {words}: {message.error}"
