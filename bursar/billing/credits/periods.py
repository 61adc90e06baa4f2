"""Hosting paid from credits: what a period costs, how long it is, which plan the next one has (CR-21, CR-35, CR-36)."""

from datetime import datetime

from bursar.billing.calendar import next_boundary
from bursar.billing.catalogue import CreditTerms, PaidPlan
from bursar.billing.credits.ledger import MICRODOLLARS_PER_CENT, Entry, EntryKind
from bursar.billing.kiloclaw.rows import ScheduledBy, Subscription
from bursar.billing.values import replace


def price_microdollars(plan: PaidPlan, terms: CreditTerms) -> int:
    """What one period of the plan costs."""
    return terms.cents(plan) * MICRODOLLARS_PER_CENT


def hosting_charge(plan: PaidPlan, business_key: str, terms: CreditTerms, cause: str) -> Entry:
    """The charge of one period of hosting."""
    return Entry(
        kind=EntryKind.CHARGE,
        amount_microdollars=-price_microdollars(plan, terms),
        description=f"KiloClaw hosting, {plan} plan",
        business_key=business_key,
        cause=cause,
    )


def in_period(row: Subscription, plan: PaidPlan, starts_at: datetime, terms: CreditTerms) -> Subscription:
    """The row, active in a period of the plan that begins at that instant; what was overdue or suspended is over.

    A commit plan is followed by standard, unless the user asked for something else (CR-36).
    """
    anchor = row.credit_anchor_at or starts_at
    ends_at = next_boundary(anchor, starts_at, terms.months(plan))
    scheduled_plan, scheduled_by = _scheduled(row, plan)
    return replace(
        row,
        plan=plan,
        status="active",
        payment_source="credits",
        current_period_start=starts_at,
        current_period_end=ends_at,
        credit_renewal_at=ends_at,
        credit_anchor_at=anchor,
        commit_ends_at=max(row.commit_ends_at or ends_at, ends_at) if plan == "commit" else None,
        scheduled_plan=scheduled_plan,
        scheduled_by=scheduled_by,
        past_due_since=None,
        suspended_at=None,
        destruction_deadline=None,
    )


def is_committed(row: Subscription, at: datetime) -> bool:
    """Whether the commit plan still holds at that instant: paid for beyond it, by `renew-commit` (CR-36)."""
    return row.plan == "commit" and row.commit_ends_at is not None and row.commit_ends_at > at


def plan_from(row: Subscription, boundary: datetime) -> PaidPlan:
    """The plan of the period that begins at the boundary: the scheduled one, and standard after a commitment."""
    if is_committed(row, boundary):
        return "commit"
    return row.scheduled_plan or "standard"


def next_cost_microdollars(row: Subscription, terms: CreditTerms) -> int | None:
    """What the next renewal of a row kept in credits costs (KC-113); None where it does not renew."""
    boundary = row.credit_renewal_at
    if row.payment_source != "credits" or not boundary or row.cancel_at_period_end or row.status == "canceled":
        return None
    prepaid = row.is_pure_credit and is_committed(row, boundary)
    return 0 if prepaid else price_microdollars(plan_from(row, boundary), terms)


def _scheduled(row: Subscription, plan: PaidPlan) -> tuple[PaidPlan | None, ScheduledBy | None]:
    if plan == "standard" or row.cancel_at_period_end:
        return None, None
    if row.plan == "commit" and row.scheduled_by:
        return row.scheduled_plan, row.scheduled_by
    return "standard", "auto"
