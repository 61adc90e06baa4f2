"""Six further months of a commitment, paid at once by an invoice of their own (KC-47)."""

from collections.abc import Generator, Iterable
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from bursar.billing.account import Account
from bursar.billing.calendar import add_months
from bursar.billing.catalogue import Catalogue
from bursar.billing.decision import Decision
from bursar.billing.errors import CallRefused, Permanent, Refused
from bursar.billing.kiloclaw.operations.schedule import recorded, running, standing_or_new, standing_schedule, written
from bursar.billing.kiloclaw.phases import (
    COMMIT_MONTHS,
    KeptSchedule,
    ScheduleTerms,
    commit_course,
    plan_of,
    shown,
    stays_commit,
)
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.kiloclaw.scheduling import keep_steps, terms_of
from bursar.billing.operations import IN_PROGRESS, Ended, Operation, OperationFacts, Plan, begin
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.objects import StripeInvoice, StripeSubscription
from bursar.billing.values import replace

NAME = "kiloclaw-renew-commit"
DESCRIPTION = "KiloClaw commit plan: six further months"
CHALLENGES = frozenset(
    {
        "authentication_required",
        "invoice_payment_intent_requires_action",
        "subscription_payment_intent_requires_action",
    }
)


class Renewal(BaseModel):
    """A renewal as it was decided. `command_id` marks its invoice; `ends_at` is the commitment's new end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: str
    customer_id: str
    subscription_id: str
    amount_cents: int
    ends_at: AwareDatetime
    terms: ScheduleTerms

    @property
    def extended(self) -> ScheduleTerms:
        """The schedule's terms once it is paid."""
        return self.terms.model_copy(update={"commit_ends_at": self.ends_at})


def renew_commit(account: Account, catalogue: Catalogue, now: datetime, command_id: str) -> Decision:
    """Ask for six further months of a commit plan that Stripe bills, runs and stays. Parts: Hosting, Operations."""
    row = hosting_of(account).subscription
    if row is None or row.plan != "commit":
        raise Refused("not_commit", "Only a commitment can be renewed.")
    if row.status != "active":
        raise Refused("not_active", "Only an active subscription can be renewed.")
    if row.cancel_at_period_end:
        raise Refused("cancellation_pending", "The subscription is being canceled: reactivate it first.")
    if row.stripe_subscription_id is None or row.stripe_customer_id is None:
        raise Refused("not_commit", "Only a commitment that Stripe bills can be renewed by an invoice.")
    if row.commit_ends_at is None or row.commit_ends_at <= now:
        raise Refused(*IN_PROGRESS, status=409)  # its end is being looked up, or it is becoming standard
    asked = Renewal(
        command_id=command_id,
        customer_id=row.stripe_customer_id,
        subscription_id=row.stripe_subscription_id,
        amount_cents=catalogue.kiloclaw.credits.cents("commit"),
        ends_at=add_months(row.commit_ends_at, COMMIT_MONTHS),
        terms=terms_of(row, catalogue),
    )
    return begin(account, NAME, asked, command_id)


def renew(asked: Renewal) -> Plan:
    """Pay, then write the schedule anew. Before the payment everything is taken back; after it nothing is: a schedule
    that Stripe refuses is kept later, and the months are the user's.
    """
    subscription = yield Call("subscription", Method.RETRIEVE_SUBSCRIPTION, target=asked.subscription_id)
    invoices = yield Call("invoices", Method.LIST_INVOICES, params={"customer": asked.customer_id})
    known = _of_this_renewal(invoices.data, asked.command_id)
    if known is None or known.status != "paid":
        yield from _check(subscription, asked)
        yield from _paid(subscription, known, asked)
    else:
        yield Call("paid-before", Method.RETRIEVE_INVOICE, target=known.id, settles=True)
    kept = yield from _rebuilt(subscription, asked)
    return {"commit_ends_at": asked.ends_at.isoformat(), "schedule": kept.model_dump(mode="json") if kept else None}


def apply(account: Account, asked: Renewal, ended: Ended, facts: OperationFacts) -> Decision:
    """Move the commitment's end, and record the schedule or have it kept; without a payment nothing changes.

    Raises `Permanent` where the row has no commitment any more: what was paid is an operator's to give back.
    """
    row = hosting_of(account).subscription
    if ended.result is None:
        return Decision.nothing(account, "renewal_failed")
    if row is None or row.stripe_subscription_id != asked.subscription_id or not _is_committed(row):
        raise _paid_in_vain(asked)
    renewed = replace(row, commit_ends_at=asked.ends_at)
    done = Decision(with_row(account, renewed), counts={"renewed": 1})
    if ended.result["schedule"]:
        done = done.then(recorded(done.account, asked.subscription_id, KeptSchedule(**ended.result["schedule"])))
    else:
        done = replace(done, steps=keep_steps(done.account, renewed, facts.catalogue))
    return replace(done, reason="commitment renewed by the user")


def _is_committed(row: Subscription) -> bool:
    return row.plan == "commit" and row.status != "canceled"


def _paid_in_vain(asked: Renewal) -> Permanent:
    return Permanent(
        f"six further months were paid and cannot be given: refund the invoice of operation {asked.command_id}"
    )


def _of_this_renewal(invoices: Iterable[StripeInvoice], command_id: str) -> StripeInvoice | None:
    """The invoice that an earlier round made, the paid one before any other."""
    own = [one for one in invoices if one.metadata.get("operation") == command_id and one.status not in _GONE]
    return min(own, key=lambda one: one.status != "paid", default=None)


_GONE = frozenset({"void", "uncollectible"})


def _check(subscription: StripeSubscription, asked: Renewal) -> Generator[Call, Any, None]:
    """What would make the schedule impossible refuses before anything is paid (KC-41)."""
    yield from standing_schedule(subscription)
    if not stays_commit(subscription, asked.terms.prices):
        raise Refused("not_commit", "Only a commitment that runs and stays can be renewed.")


def _paid(subscription: StripeSubscription, known: StripeInvoice | None, asked: Renewal) -> Generator[Call, Any, None]:
    """An invoice with exactly one item, finalized and paid off-session; `Refused` where it is not paid."""
    invoice = known or (yield _create(asked))
    if invoice.status == "draft":
        if invoice.amount_due == 0:
            yield _item(invoice, asked)
        invoice = yield _finalize(invoice)
    if invoice.status == "paid":  # from the customer's balance
        yield Call("paid-already", Method.RETRIEVE_INVOICE, target=invoice.id, settles=True)
        return
    yield from _collected(invoice, subscription.default_payment_method)


def _collected(invoice: StripeInvoice, payment_method: str | None) -> Generator[Call, Any, None]:
    """Voided where it is not paid, whichever round finalized it; the undos then find that done."""
    try:
        seen, refusal = (yield _pay(invoice, payment_method)), None
    except CallRefused as error:  # or the customer paid it meanwhile
        refusal = error
        seen = yield Call("invoice-after-refusal", Method.RETRIEVE_INVOICE, target=invoice.id)
    if seen.status != "paid":
        yield from _voided(invoice)
        raise _requires_action() if refusal and refusal.code in CHALLENGES else _payment_failed()
    if refusal:
        yield Call("paid-meanwhile", Method.RETRIEVE_INVOICE, target=invoice.id, settles=True)


def _voided(invoice: StripeInvoice) -> Generator[Call, Any, None]:
    """Raises `Permanent` where Stripe keeps it open, as for a bank's debit under way: it may be paid yet."""
    try:
        yield Call("void-unpaid-invoice", Method.VOID_INVOICE, target=invoice.id)
    except CallRefused as refusal:
        raise Permanent(f"invoice {invoice.id} of a renewal is neither paid nor void ({refusal.code})") from None


def _rebuilt(subscription: StripeSubscription, asked: Renewal) -> Generator[Call, Any, KeptSchedule | None]:
    """From the phase that runs, months already paid as a trial; None where Stripe refuses it.

    Raises `Permanent` where the commitment is over by now.
    """
    terms = asked.extended
    try:
        schedule = yield from standing_or_new(subscription)
        live = plan_of(running(schedule), terms.prices)
        if live != "commit":
            if live:
                raise _paid_in_vain(asked)
            return None
        by = shown(schedule, terms.prices).scheduled_by or "auto"
        course = commit_course(running(schedule), terms, asked.terms.commit_ends_at)
        rebuilt = yield from written(schedule, course, by, "standard", terms)
    except (CallRefused, Refused):
        return None
    return shown(rebuilt, terms.prices)


def _create(asked: Renewal) -> Call:
    """A draft that Stripe does not finalize by itself; nothing else that is pending gets onto it."""
    params = {
        "customer": asked.customer_id,
        "currency": "usd",
        "auto_advance": False,
        "collection_method": "charge_automatically",
        "pending_invoice_items_behavior": "exclude",
        "description": DESCRIPTION,
        "metadata": {
            "type": "kiloclaw_commit_renewal",
            "userId": asked.terms.user_id,
            "operation": asked.command_id,
        },
    }
    undo = Call("delete-invoice", Method.DELETE_INVOICE)
    return Call("create-invoice", Method.CREATE_INVOICE, params=params, undo=undo)


def _item(invoice: StripeInvoice, asked: Renewal) -> Call:
    params = {
        "customer": asked.customer_id,
        "invoice": invoice.id,
        "amount": asked.amount_cents,
        "currency": "usd",
        "description": DESCRIPTION,
        "discountable": False,
    }
    return Call("create-item", Method.CREATE_INVOICE_ITEM, params=params)


def _finalize(invoice: StripeInvoice) -> Call:
    undo = Call("void-invoice", Method.VOID_INVOICE)
    params = {"auto_advance": False}
    return Call("finalize-invoice", Method.FINALIZE_INVOICE, target=invoice.id, params=params, undo=undo)


def _pay(invoice: StripeInvoice, payment_method: str | None) -> Call:
    params: dict[str, Any] = {"off_session": True}
    if payment_method:  # a checkout keeps it at the subscription, where a single invoice does not look
        params["payment_method"] = payment_method
    return Call("pay-invoice", Method.PAY_INVOICE, target=invoice.id, params=params, settles=True)


def _payment_failed() -> Refused:
    return Refused("payment_failed", "The payment failed; nothing was changed.", status=402)


def _requires_action() -> Refused:
    message = "The bank asks for a confirmation, which cannot be given here; nothing was changed."
    return Refused("payment_requires_action", message, status=402)


RENEW = Operation(NAME, Renewal, renew, apply)
