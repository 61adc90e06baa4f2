"""Renewal of rows that are paid from credits alone: one period of one row at a time (CR-30…CR-41)."""

from datetime import datetime

from bursar.billing.account import Account
from bursar.billing.calendar import next_boundary
from bursar.billing.catalogue import Catalogue, CreditTerms, PaidPlan
from bursar.billing.credits.auto_top_up import top_up_step
from bursar.billing.credits.ledger import InsufficientCredits, credits_of, with_entry
from bursar.billing.credits.periods import hosting_charge, in_period, plan_from
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.mail import MailType, cycle_of, send_once
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import MailKey, Subscription, hosting_of
from bursar.billing.kiloclaw.suspension import start_again
from bursar.billing.values import Value, replace

RENEWABLE = frozenset({"active", "past_due"})
PLANS: tuple[PaidPlan, ...] = ("standard", "commit")
RENEWED = "renewed"  # counted of each period


class Renewal(Value):
    """One item: the boundary at which the row was found, or None for wherever it stands; and what brought it."""

    boundary: datetime | None
    now: datetime
    cause: str


def renew(account: Account, row: Subscription, item: Renewal, catalogue: Catalogue) -> Decision | None:
    """Charge one period and advance by it, in one decision (CR-32); None where the item is stale (CR-31).

    Parts: Profile, Hosting, Credits.
    """
    boundary, terms = row.credit_renewal_at, catalogue.kiloclaw.credits
    if boundary is None or not _is_due(row, boundary, item):
        return None
    plan = plan_from(row, boundary)
    paid = _paid_plan(account, row, boundary, plan)
    if paid:
        return _advanced(account, row, in_period(row, paid, boundary, terms), "renewed: charged before")
    if row.cancel_at_period_end:
        return _canceled(account, row)
    charge = hosting_charge(plan, charge_key(row, plan, boundary), terms, item.cause)
    try:
        charged = with_entry(account, charge)
    except InsufficientCredits as short:
        return _topping_up(account, row, short, catalogue) or _past_due(account, row, item.now)
    return _advanced(charged, row, in_period(row, plan, boundary, terms), "renewed from credits")


def renew_commit(account: Account, catalogue: Catalogue, command_id: str) -> Decision:
    """Pay six more months of commit now: they begin where the commitment ends (KC-47, CR-36). Parts: Hosting, Credits.

    The charge is the one of the renewal at that boundary, which then finds it made (CR-33). The same request again
    finds its own charge. Raises `InsufficientCredits`, and `Refused` for a row that is no active commit.
    """
    row, terms = hosting_of(account).subscription, catalogue.kiloclaw.credits
    if row is None or not row.is_pure_credit or row.status != "active":
        raise Refused("not_active", "There is no active subscription paid from credits.")
    if credits_of(account).has_cause(command_id):
        return Decision(account, result=_committed(row))
    if row.plan != "commit" or row.commit_ends_at is None:
        raise Refused("not_commit", "Only a commit plan can be renewed ahead.")
    if row.cancel_at_period_end:
        raise Refused("cancellation_pending", "The subscription is set to cancel.")
    charge = hosting_charge("commit", charge_key(row, "commit", row.commit_ends_at), terms, command_id)
    after = replace(row, commit_ends_at=_months_on(row, row.commit_ends_at, terms))
    renewed = with_row(with_entry(account, charge), after)
    return Decision(renewed, reason="commitment renewed from credits", result=_committed(after))


def charge_key(row: Subscription, plan: PaidPlan, boundary: datetime) -> str:
    """What makes a renewal's charge one and the same: row, plan and boundary (CR-32)."""
    return f"kiloclaw-renewal:{row.id}:{plan}:{boundary.isoformat()}"


def _is_due(row: Subscription, boundary: datetime, item: Renewal) -> bool:
    """CR-31: still that boundary, still paid from credits alone, still to be renewed."""
    is_the_items = item.boundary is None or item.boundary == boundary
    return is_the_items and boundary <= item.now and row.is_pure_credit and row.status in RENEWABLE


def _paid_plan(account: Account, row: Subscription, boundary: datetime, plan: PaidPlan) -> PaidPlan | None:
    """The plan that is charged for the boundary already, the expected one first (CR-33)."""
    credit = credits_of(account)
    candidates = (plan, *(other for other in PLANS if other != plan))
    return next((one for one in candidates if credit.has(charge_key(row, one, boundary))), None)


def _advanced(account: Account, row: Subscription, renewed: Subscription, reason: str) -> Decision:
    """CR-37: what was suspended resumes; the next failure has a cycle, and so a mail, of its own."""
    saved = with_row(account, renewed)
    counts = {"changed": 1, RENEWED: 1}
    if row.past_due_since:
        counts["recovered"] = 1
    return Decision(start_again(saved) if row.suspended_at else saved, reason=reason, counts=counts)


def _canceled(account: Account, row: Subscription) -> Decision:
    """CR-34: nothing charged, and the period stays as it was paid; KC-70 follows."""
    ended = replace(
        row,
        status="canceled",
        cancel_at_period_end=False,
        commit_ends_at=None,
        scheduled_plan=None,
        scheduled_by=None,
        past_due_since=None,
    )
    return Decision(with_row(account, ended), reason="canceled at the period's end", counts={"changed": 1})


def _topping_up(
    account: Account, row: Subscription, short: InsufficientCredits, catalogue: Catalogue
) -> Decision | None:
    """CR-38: the marker, and with it the step; otherwise the row stays as it is, and nothing is mailed."""
    step = top_up_step(account, row, short.shortfall_microdollars, catalogue.top_up)
    if step is None:
        return None
    marked = with_row(account, replace(row, top_up_boundary=row.credit_renewal_at))
    return Decision(marked, (step,), reason="automatic top-up", counts={"changed": 1, "top_up_asked": 1})


def _past_due(account: Account, row: Subscription, now: datetime) -> Decision:
    """CR-39: the first instant is kept, and the mail is of its cycle."""
    since = row.past_due_since or now
    overdue = account
    if row.status != "past_due":
        overdue = with_row(account, replace(row, status="past_due", past_due_since=since))
    sent = send_once(overdue, MailKey(MailType.CREDIT_RENEWAL_FAILED, cycle_of(since)), {"past_due_since": since})
    changed = {"changed": 1} if overdue is not account else {}
    return replace(sent, reason="too little credit for the renewal", counts={**sent.counts, **changed, "unpaid": 1})


def _months_on(row: Subscription, ends_at: datetime, terms: CreditTerms) -> datetime:
    return next_boundary(row.credit_anchor_at or ends_at, ends_at, terms.months("commit"))


def _committed(row: Subscription) -> dict[str, str | None]:
    return {"plan": row.plan, "commit_ends_at": row.commit_ends_at.isoformat() if row.commit_ends_at else None}
