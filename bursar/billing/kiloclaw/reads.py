"""What a read of a customer's subscriptions at Stripe means for the row (KC-30…KC-32, KC-37, KC-74)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from bursar.billing.account import Account, Profile, user_id_of
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.ledger import Credits
from bursar.billing.credits.settlement import Settlement, paid_period, settle, settle_apart
from bursar.billing.decision import Decision
from bursar.billing.errors import AskAgain, UnreadableMessage
from bursar.billing.kiloclaw.endings import ended_beside
from bursar.billing.kiloclaw.following import NEVER_BEGUN, PAYING, UNENDED, differs, follow_read
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import EarlyEvent, Hosting, Subscription, hosting_of
from bursar.billing.kiloclaw.stripe_events import CREATED, PAID, apply, forget_early, noting_price, taken_over
from bursar.billing.stripe.objects import StripeInvoice, StripeSubscription
from bursar.billing.values import Value, field, replace

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class ReadTargets(Value):
    """What to ask Stripe: these customers' subscriptions, and these by id where the lists lack them; and which events
    are remembered by then.
    """

    customer_ids: tuple[str, ...]
    subscription_ids: tuple[str, ...]
    row_version: int
    heard_ids: frozenset[str] = frozenset()


class SubscriptionsRead(Value):
    """Stripe's answer, the version of the row it was asked at, when, and about which customers. `paid` is the newest
    paid invoice of those that are `unsettled`, `heard_ids` are the events that were remembered when it was asked.
    """

    subscriptions: tuple[StripeSubscription, ...]
    row_version: int
    read_at: datetime
    customer_ids: tuple[str, ...] = ()
    paid: Mapping[str, StripeInvoice] = field(default_factory=dict)
    heard_ids: frozenset[str] = frozenset()


def read_targets(account: Account) -> ReadTargets:
    """Whom to ask about for an account (parts: Profile, Hosting)."""
    profile, hosting = account.part(Profile), hosting_of(account)
    row = hosting.subscription
    customers = [profile.stripe_customer_id, row.stripe_customer_id if row else None]
    customers += [early.stripe_customer_id for early in hosting.early_events]
    ids = [row.stripe_subscription_id if row else None]
    ids += [early.stripe_subscription_id for early in hosting.early_events]
    heard_ids = frozenset(early.event_id for early in hosting.early_events)
    return ReadTargets(_known(customers), _known(ids), row.version if row else 0, heard_ids)


def unsettled(account: Account, subscriptions: Iterable[StripeSubscription]) -> tuple[str, ...]:
    """Those that give access through credits, of whose payment nothing is known here: their newest paid invoice is to
    be asked for, since its event may have come long ago, or never.
    """
    hosting = hosting_of(account)
    known = {_settled_id(hosting), *(one.stripe_subscription_id for one in hosting.early_events if one.paid_period)}
    ours = (one for one in subscriptions if _belongs_to(account, one) and one.status in PAYING)
    return tuple(one.id for one in ours if _is_credit_funded(one) and one.id not in known)


def has_moved(account: Account, read: SubscriptionsRead) -> bool:
    """Whether the row changed since Stripe was asked, or an event was remembered that the answer may not know: then it
    is asked again (KC-31, KC-32).
    """
    hosting = hosting_of(account)
    version = hosting.subscription.version if hosting.subscription else 0
    return version != read.row_version or any(one.event_id not in read.heard_ids for one in hosting.early_events)


def asked_about_all(account: Account, read: SubscriptionsRead) -> bool:
    """Whether Stripe was asked about every customer that is known by now (KC-74)."""
    return set(read_targets(account).customer_ids) <= set(read.customer_ids)


def tells_of_the_row(account: Account, read: SubscriptionsRead) -> bool:
    """Whether the answer knows the row's own subscription: one that does not proves nothing, such as another key's."""
    row = hosting_of(account).subscription
    own = row.stripe_subscription_id if row else None
    return own is None or any(one.id == own for one in read.subscriptions)


def subscriptions_read(account: Account, read: SubscriptionsRead, catalogue: Catalogue, cause: str) -> Decision:
    """Bring the row to what Stripe says: its own subscription, or the live one that takes its place."""
    hosting = hosting_of(account)
    ours = tuple(one for one in read.subscriptions if _belongs_to(account, one))
    row = hosting.subscription
    if row and row.is_enrolled:
        return _beside_credits(account, row, ours, read, catalogue)
    choice = _chosen(hosting, ours)
    settled = frozenset(one.id for one in ours if one is choice or not _may_yet_begin(one))
    account = account.having(forget_early(hosting, settled))
    payments = [*_paid_early(hosting, settled), *_paid_at_stripe(hosting, read, choice, catalogue)]
    if choice is None:
        nothing = Decision(account, counts={"read_nothing_to_follow": 1})
        return _settling(nothing, payments, read, catalogue)
    read_at = _as_new_as(hosting, choice, read.read_at)
    followed = _follow_choice(account, choice, read_at, catalogue, cause)
    if not payments:
        return followed
    return _following_again(_settling(followed, payments, read, catalogue), choice, read_at, catalogue)


def may_settle(account: Account, read: SubscriptionsRead) -> bool:
    """Whether settling may follow from a read, which then needs the part Credits."""
    return bool(read.paid) or any(early.paid_period for early in hosting_of(account).early_events)


def _settling(
    decision: Decision, payments: Sequence[EarlyEvent], read: SubscriptionsRead, catalogue: Catalogue
) -> Decision:
    """Settle what was paid for credit-funded subscriptions before they were known, the earliest period first (KC-31).

    Raises AskAgain where a payment was remembered while Stripe was asked.
    """
    in_credits = {one.id for one in read.subscriptions if _is_credit_funded(one)}
    for early in payments:
        row, subscription_id = hosting_of(decision.account).subscription, early.stripe_subscription_id
        is_rows = row is not None and row.is_hybrid and row.stripe_subscription_id == subscription_id
        if early.paid_period is None or not (is_rows or subscription_id in in_credits):
            continue
        if Credits not in decision.account.parts:
            raise AskAgain("a payment came while Stripe was asked")
        settlement = Settlement(early.paid_period, early.occurred_at, early.event_id)
        if row is not None and is_rows:
            decision = decision.then(settle(decision.account, row, settlement, catalogue))
        else:
            decision = decision.then(settle_apart(decision.account, subscription_id, settlement))
    return decision


def _beside_credits(
    account: Account,
    row: Subscription,
    ours: tuple[StripeSubscription, ...],
    read: SubscriptionsRead,
    catalogue: Catalogue,
) -> Decision:
    """CR-25: whatever Stripe has ends there; what was paid for it is settled without the row."""
    hosting, known = hosting_of(account), frozenset(one.id for one in ours)
    forgotten = account.having(forget_early(hosting, known))
    return _settling(ended_beside(forgotten, row, ours), _paid_early(hosting, known), read, catalogue)


def _following_again(
    decision: Decision, choice: StripeSubscription, read_at: datetime, catalogue: Catalogue
) -> Decision:
    """What was read counts once more for a row that was settled meanwhile: it is newer than what was remembered."""
    row = hosting_of(decision.account).subscription
    if row is None or not row.is_settled:
        return decision
    says = follow_read(row, choice, read_at, catalogue)
    if not differs(row, says):
        return decision
    return replace(decision, account=with_row(decision.account, replace(row, **says)))


def _paid_early(hosting: Hosting, subscription_ids: frozenset[str]) -> list[EarlyEvent]:
    return sorted(
        (one for one in hosting.early_events if one.paid_period and one.stripe_subscription_id in subscription_ids),
        key=lambda one: (one.paid_period.ends_at if one.paid_period else LONG_AGO, one.occurred_at, one.event_id),
    )


def _paid_at_stripe(
    hosting: Hosting, read: SubscriptionsRead, choice: StripeSubscription | None, catalogue: Catalogue
) -> list[EarlyEvent]:
    """What settles a row that nothing settled yet. One that cannot be read does not: its event is parked (CR-57)."""
    invoice = read.paid.get(choice.id) if choice else None
    if choice is None or invoice is None or choice.id == _settled_id(hosting):
        return []
    try:
        paid = paid_period(invoice.read(), choice.id, catalogue)
    except UnreadableMessage:
        return []
    paid_at = invoice.paid_at or read.read_at
    return [EarlyEvent(f"read:{invoice.id}", choice.id, choice.customer, PAID, paid_at, paid)]


def _settled_id(hosting: Hosting) -> str | None:
    row = hosting.subscription
    return row.stripe_subscription_id if row and row.is_settled else None


def _is_credit_funded(subscription: StripeSubscription) -> bool:
    return subscription.metadata.get("funding") == "credits"


def _as_new_as(hosting: Hosting, choice: StripeSubscription, read_at: datetime) -> datetime:
    """A read knows what every event told that came before it was asked, whatever the two clocks say."""
    told = (early.occurred_at for early in hosting.early_events if early.stripe_subscription_id == choice.id)
    return max((read_at, *told))


def _follow_choice(
    account: Account, choice: StripeSubscription, read_at: datetime, catalogue: Catalogue, cause: str
) -> Decision:
    before = hosting_of(account).subscription
    is_bound = before is not None and before.stripe_subscription_id == choice.id
    row = before if is_bound else taken_over(account, choice, cause)
    if row is None:
        return Decision.nothing(account, "unknown_user")
    newest = max(read_at, row.last_stripe_event_at or read_at)
    says = follow_read(row, choice, read_at, catalogue)
    followed = replace(row, **says, last_stripe_event_at=newest, last_read_at=newest)
    decision = noting_price(apply(account, before or row, followed, choice, catalogue), choice, catalogue)
    # A schedule that could not be kept causes a read: one that shows nothing new does not ask for it again.
    steps = decision.steps if not is_bound or differs(row, says) else ()
    return replace(decision, steps=steps, reason=f"read from Stripe: {choice.id} is {choice.status}")


def _chosen(hosting: Hosting, ours: tuple[StripeSubscription, ...]) -> StripeSubscription | None:
    """A live one stays bound, an ended one gives way to a live one (KC-30, KC-37); a suspended row takes whoever pays
    (KC-74).
    """
    row = hosting.subscription
    own = next((one for one in ours if row and one.id == row.stripe_subscription_id), None)
    others = sorted((one for one in ours if one is not own), key=_age)
    paying = next((one for one in others if one.status in PAYING), None)
    owing = next((one for one in others if one.status in UNENDED), None)
    if own and own.status in PAYING:
        return own
    if own and own.status in UNENDED and not (row and row.suspended_at and paying):
        return own
    return paying or owing or own or _ended_but_created(hosting, others)


def _ended_but_created(hosting: Hosting, others: Iterable[StripeSubscription]) -> StripeSubscription | None:
    """For a free row: a subscription that began and ended before we heard of it counts, one that never began does
    not.
    """
    row = hosting.subscription
    if row and (row.stripe_subscription_id or row.status not in ("trialing", "canceled")):
        return None
    created = {early.stripe_subscription_id for early in hosting.early_events if early.type == CREATED}
    return next((one for one in others if one.id in created and one.status not in NEVER_BEGUN), None)


def _belongs_to(account: Account, subscription: StripeSubscription) -> bool:
    named = subscription.metadata.get("userId")
    return subscription.is_kiloclaw and (named is None or named == user_id_of(account.key))


def _may_yet_begin(subscription: StripeSubscription) -> bool:
    return subscription.status in UNENDED or subscription.status == "incomplete"


def _age(subscription: StripeSubscription) -> float:
    """Sorts the newest first."""
    return -(subscription.created or LONG_AGO).timestamp()


def _known(ids: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for one in ids if one))
