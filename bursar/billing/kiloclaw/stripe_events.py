"""What Stripe's events do to a row (KC-30…KC-39): apply, remember, or read again from Stripe."""

from datetime import datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

from bursar.billing.account import Account, user_id_of
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.ledger import Credits
from bursar.billing.credits.settlement import Settlement, is_uncertain, paid_period, settle
from bursar.billing.decision import Decision
from bursar.billing.errors import UnreadableMessage
from bursar.billing.kiloclaw.access import pending_settlement
from bursar.billing.kiloclaw.following import (
    DUNNING,
    NEVER_BEGUN,
    UNKNOWN_PRICE,
    bound,
    differs,
    follow,
    is_overtaken,
    offer_of,
    status_of,
)
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import EarlyEvent, Hosting, Status, Subscription, hosting_of
from bursar.billing.kiloclaw.scheduling import is_out_of_step, keep_steps
from bursar.billing.kiloclaw.suspension import start_again
from bursar.billing.steps import Step, StepKind
from bursar.billing.stripe.invoices import InvoiceEvent, SubscriptionOfInvoice
from bursar.billing.stripe.objects import StripeSubscription, SubscriptionEvent
from bursar.billing.values import replace

CREATED = "customer.subscription.created"
DELETED = "customer.subscription.deleted"
PAID = "invoice.paid"
# A read is dated by our clock, an event by Stripe's: within this span neither is certain to be the older.
CLOCK_SKEW = timedelta(seconds=60)


def subscription_event(account: Account, event: SubscriptionEvent, catalogue: Catalogue) -> Decision:
    """Decide on `customer.subscription.*`. Foreign subscriptions are left alone."""
    subscription = event.subscription
    if not subscription.is_kiloclaw:
        return Decision.nothing(account, "foreign")
    status_of(subscription)  # an unknown status parks the message whatever the row (KC-33)
    row = hosting_of(account).subscription
    if row and row.stripe_subscription_id == subscription.id:
        return _event_of_bound(account, row, event, catalogue)
    if _may_take_over_at_once(account, event):
        return _take_over(account, subscription, event.created, catalogue, event.id)
    return _remember(account, _early(event.id, event.type, event.created, subscription.id, subscription.customer))


def invoice_event(account: Account, event: InvoiceEvent, catalogue: Catalogue) -> Decision:
    """Decide on `invoice.*`: a paid one settles a credit-funded row, for a direct one it causes a read; a failed one
    does nothing: grace suspends, not it (KC-39). Parts: Hosting; Credits to settle at once.
    """
    details = event.invoice.of_subscription
    row = hosting_of(account).subscription
    if details is None:
        return Decision.nothing(account, "foreign")
    if row is not None and row.stripe_subscription_id == details.subscription:
        return _invoice_of_bound(account, row, event, details, catalogue)
    if details.metadata.get("type") != "kiloclaw":
        return Decision.nothing(account, "foreign")
    return _remember(account, _early_invoice(event, details, catalogue))


def _invoice_of_bound(
    account: Account, row: Subscription, event: InvoiceEvent, details: SubscriptionOfInvoice, catalogue: Catalogue
) -> Decision:
    if event.type != PAID:
        return Decision.nothing(account, "noted")
    if not (row.is_hybrid or _is_credit_funded(details)):
        return reading(account, "invoice_paid")
    paid = paid_period(event.invoice, details.subscription, catalogue)
    if Credits not in account.parts:  # a row that was direct when the invoice was made: the read brings that part
        return reading(_remember(account, _early_invoice(event, details, catalogue)).account, "remembered")
    settlement = Settlement(paid, event.created, event.id)
    settled = settle(account, row, settlement, catalogue)
    after = hosting_of(settled.account).subscription or row
    uncertain = settled.account is not account and is_uncertain(row, after, event.created)
    return settled.then(reading(settled.account, "read_again")) if uncertain else settled


def _early_invoice(event: InvoiceEvent, details: SubscriptionOfInvoice, catalogue: Catalogue) -> EarlyEvent:
    """What is kept of an invoice. Whether its subscription is credit-funded may not be known yet: then what cannot be
    read is left out.
    """
    paid = None
    if event.type == PAID:
        try:
            paid = paid_period(event.invoice, details.subscription, catalogue)
        except UnreadableMessage:
            if _is_credit_funded(details):
                raise
    return EarlyEvent(event.id, details.subscription, event.invoice.customer, event.type, event.created, paid)


def _is_credit_funded(details: SubscriptionOfInvoice) -> bool:
    return details.metadata.get("funding") == "credits"


def reading(account: Account, count: str) -> Decision:
    """Ask for a read of the customer's subscriptions: one for all that ask while it is due (KC-32)."""
    step = Step(StepKind.READ_SUBSCRIPTIONS, f"read:{account.key}", coalesced=True)
    return Decision(account, (step,), counts={count: 1})


def apply(
    account: Account, row: Subscription, followed: Subscription, says: StripeSubscription, catalogue: Catalogue
) -> Decision:
    """Save the followed row; one that became active while suspended has its instance started (KC-37, KC-90), unless
    the first settlement is still to give access (KC-100). What is left to do about its schedule is asked for (KC-40,
    KC-45).
    """
    saved = with_row(account, followed)
    if row.suspended_at and not followed.suspended_at and not pending_settlement(followed):
        saved = start_again(saved)
    out_of_step = is_out_of_step(row, followed, says.schedule)
    steps = keep_steps(saved, followed, catalogue) if out_of_step else ()
    return Decision(saved, steps, counts={"applied": 1})


def taken_over(account: Account, subscription: StripeSubscription, cause: str) -> Subscription | None:
    """The user's row bound to that subscription, made when there is none; None for an account without a user."""
    user_id = user_id_of(account.key)
    if user_id is None:
        return None
    hosting = hosting_of(account)
    row = hosting.subscription or _new_row(user_id, subscription, cause)
    live = hosting.live_instance
    pointing = replace(row, instance_id=live.id) if live else row  # a row covers the instance there is (KC-61)
    return bound(pointing, subscription)


def forget_early(hosting: Hosting, subscription_ids: frozenset[str]) -> Hosting:
    """The part without what was remembered for those subscriptions."""
    kept = tuple(early for early in hosting.early_events if early.stripe_subscription_id not in subscription_ids)
    return hosting if len(kept) == len(hosting.early_events) else replace(hosting, early_events=kept)


def _new_row(user_id: str, subscription: StripeSubscription, cause: str) -> Subscription:
    item = subscription.items[0]
    return Subscription(
        id=uuid5(NAMESPACE_URL, f"kiloclaw-subscription:{user_id}:{cause}"),
        user_id=user_id,
        plan="standard",
        status="active",
        current_period_start=item.current_period_start,
        current_period_end=item.current_period_end,
        created_at=subscription.created or item.current_period_start,
    )


def _may_take_over_at_once(account: Account, event: SubscriptionEvent) -> bool:
    """`created`, first to arrive, begun, and no other subscription to compare it with at Stripe (KC-30, KC-31)."""
    hosting = hosting_of(account)
    row = hosting.subscription
    free = row is None or (row.stripe_subscription_id is None and row.status in ("trialing", "canceled"))
    early = any(known.stripe_subscription_id == event.subscription.id for known in hosting.early_events)
    begun = event.subscription.status not in NEVER_BEGUN
    return event.type == CREATED and free and begun and not early and user_id_of(account.key) is not None


def _take_over(
    account: Account, subscription: StripeSubscription, at: datetime, catalogue: Catalogue, cause: str
) -> Decision:
    before = hosting_of(account).subscription
    row = taken_over(account, subscription, cause)
    if row is None:
        return Decision.nothing(account, "unknown_user")
    followed = replace(row, **follow(row, subscription, at, catalogue), last_stripe_event_at=at)
    decision = apply(account, before or row, followed, subscription, catalogue)
    noted = noting_price(decision, subscription, catalogue)
    return replace(noted, reason=f"subscription {subscription.id} created")


def _event_of_bound(account: Account, row: Subscription, event: SubscriptionEvent, catalogue: Catalogue) -> Decision:
    if is_overtaken(row, event.subscription, event.created) and row.status not in DUNNING:
        return reading(account, "read_again")
    followed = follow(row, event.subscription, event.created, catalogue)
    if not differs(row, followed):
        return _agreed(account, row, event, catalogue)
    last = row.last_stripe_event_at
    if last and event.created < last:
        uncertain = row.last_read_at == last and event.created > last - CLOCK_SKEW
        return reading(account, "read_again") if uncertain else Decision.nothing(account, "older")
    if event.created == last or _cannot_follow(row, followed["status"]):
        return reading(account, "read_again")
    changed = replace(row, **followed, last_stripe_event_at=event.created, version=row.version + 1)
    decision = apply(account, row, changed, event.subscription, catalogue)
    return replace(noting_price(decision, event.subscription, catalogue), reason=event.type)


def _agreed(account: Account, row: Subscription, event: SubscriptionEvent, catalogue: Catalogue) -> Decision:
    """Nothing differs: at most the instant of the last event moves on, and its schedule is new to us (KC-41)."""
    if row.last_stripe_event_at and event.created < row.last_stripe_event_at:
        return Decision.nothing(account, "agreed")
    out_of_step = is_out_of_step(row, row, event.subscription.schedule)
    steps = keep_steps(account, row, catalogue) if out_of_step else ()
    if event.created == row.last_stripe_event_at:
        return Decision(account, steps, counts={"agreed": 1})
    newer = replace(row, last_stripe_event_at=event.created)
    return Decision(with_row(account, newer), steps, reason="agreed", counts={"agreed": 1})


def _cannot_follow(row: Subscription, status: Status) -> bool:
    """An end is looked up first, since another subscription may live (KC-37); an ended row does not come back by an
    event.
    """
    return (row.status == "canceled") != (status == "canceled")


def _early(
    event_id: str, event_type: str, occurred_at: datetime, subscription_id: str, customer_id: str | None
) -> EarlyEvent:
    return EarlyEvent(event_id, subscription_id, customer_id, event_type, occurred_at)


def _remember(account: Account, early: EarlyEvent) -> Decision:
    """Keep an event for a subscription that no row is bound to; once it is `created`, ask Stripe what it is now
    (KC-31). A payment for one that gave way to another is settled by asking, and beside an enrolment in credits
    nothing may live (CR-25).
    """
    hosting = hosting_of(account)
    row = hosting.subscription
    known = (*hosting.early_events, early)
    remembered = account.having(replace(hosting, early_events=known))
    created = any(one.type == CREATED and one.stripe_subscription_id == early.stripe_subscription_id for one in known)
    gave_way = early.paid_period and row and (row.stripe_subscription_id or row.is_pure_credit)
    if (created or gave_way or (row and row.is_enrolled)) and user_id_of(account.key) is not None:
        return reading(remembered, "remembered")
    return Decision(remembered, counts={"remembered": 1})


def noting_price(decision: Decision, subscription: StripeSubscription, catalogue: Catalogue) -> Decision:
    """Count a plan that had to be taken from the metadata (KC-34); the service logs it."""
    if offer_of(subscription, catalogue).price_known:
        return decision
    return replace(decision, counts={**decision.counts, UNKNOWN_PRICE: 1})
