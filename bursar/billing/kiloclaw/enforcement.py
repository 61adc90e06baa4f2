"""Everything that time makes due for an account, in the order of the rules: `enforce` (KC-60…KC-76).

The sweeps only find candidates for it; it looks at the state again, under the lock, and a stale candidate is a
counted no-op.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.renewal import Renewal, renew
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.access import access, earlybird_covers, pending_settlement
from bursar.billing.kiloclaw.mail import MailType, cycle_of, send_once
from bursar.billing.kiloclaw.reads import read_targets
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import MailKey, Subscription, hosting_of
from bursar.billing.kiloclaw.stripe_events import reading
from bursar.billing.kiloclaw.suspension import mark_destroying, start_again, suspend
from bursar.billing.values import Value, replace

DESTRUCTIBLE = ("canceled", "past_due", "unpaid")


class Circumstances(Value):
    """What a rule may know besides the account.

    `stripe_just_read` is true only in the decision on a read of the customer's subscriptions (the interlock, KC-74);
    `slot_left` is false when the day's destructions are used up. A renewal is of the `boundary` at which it was found
    (CR-31), and its charge names its `cause`.
    """

    catalogue: Catalogue
    now: datetime
    stripe_just_read: bool = False
    slot_left: bool = True
    boundary: datetime | None = None
    cause: str = ""


Rule = Callable[[Account, Circumstances], Decision | None]
RowRule = Callable[[Account, Subscription, Circumstances], Decision | None]


def renew_from_credits(account: Account, row: Subscription, facts: Circumstances) -> Decision | None:
    """CR-30…CR-41."""
    return renew(account, row, Renewal(facts.boundary, facts.now, facts.cause), facts.catalogue)


def resume_interrupted(account: Account, row: Subscription, _: Circumstances) -> Decision | None:
    """An entitled row whose instance is not wanted running wants it running (KC-90)."""
    instance = hosting_of(account).row_instance
    entitled = row.status in ("active", "trialing") and not pending_settlement(row)
    if not entitled or instance is None or instance.desired_state == "running":
        return None
    return Decision(start_again(account), reason="interrupted resume", counts={"changed": 1})


def suspend_expired_trial(account: Account, row: Subscription, facts: Circumstances) -> Decision | None:
    """KC-60."""
    if row.status != "trialing" or row.suspended_at or not row.trial_ends_at or row.trial_ends_at >= facts.now:
        return None
    if _covered_by_earlybird(account, facts):
        ended = with_row(account, replace(row, status="canceled"))
        return Decision(ended, reason="trial ended, earlybird covers the instance", counts={"changed": 1})
    return suspend(account, row, "canceled", MailType.SUSPENDED_TRIAL, facts.catalogue, facts.now, "trial ended")


def suspend_ended_period(account: Account, row: Subscription, facts: Circumstances) -> Decision | None:
    """KC-70."""
    over = row.current_period_end is not None and row.current_period_end < facts.now
    if row.status != "canceled" or row.plan == "trial" or row.suspended_at or not over:
        return None
    if _covered_by_earlybird(account, facts):
        return None
    return suspend(
        account, row, "canceled", MailType.SUSPENDED_SUBSCRIPTION, facts.catalogue, facts.now, "paid period ended"
    )


def destroy_overdue(account: Account, row: Subscription, facts: Circumstances) -> Decision | None:
    """KC-73 and its interlock KC-74; never what the gate grants access to, as by earlybird (KC-101)."""
    due = row.destruction_deadline is not None and row.destruction_deadline < facts.now
    if not due or not row.suspended_at or row.status not in DESTRUCTIBLE:
        return None
    hosting = hosting_of(account)
    if hosting.subscription and any(one.destroying_since and not one.destroyed_at for one in hosting.instances):
        return None  # under way already
    if hosting.row_instance and access(hosting, facts.catalogue, facts.now).granted:
        return None
    if hosting.row_instance and not facts.stripe_just_read and _is_known_to_stripe(account):
        return reading(account, "interlock_asked")
    if hosting.row_instance and not facts.slot_left:
        return Decision.nothing(account, "deferred_by_cap")
    return mark_destroying(account, row, facts.now)


def suspend_past_due(account: Account, row: Subscription, facts: Circumstances) -> Decision | None:
    """KC-71: strictly more than the grace since the first failure; the status stays."""
    grace = timedelta(days=facts.catalogue.kiloclaw.grace.past_due_days)
    over = row.past_due_since is not None and facts.now - row.past_due_since > grace
    if row.status not in ("past_due", "unpaid") or row.suspended_at or not over:
        return None
    if _covered_by_earlybird(account, facts):
        return None
    return suspend(account, row, row.status, MailType.SUSPENDED_PAYMENT, facts.catalogue, facts.now, "payment overdue")


def warn_of_destruction(account: Account, row: Subscription, facts: Circumstances) -> Decision | None:
    """KC-72."""
    deadline, suspended_at = row.destruction_deadline, row.suspended_at
    if not deadline or not suspended_at or row.status not in DESTRUCTIBLE or not hosting_of(account).row_instance:
        return None
    ahead = timedelta(days=facts.catalogue.kiloclaw.grace.destruction_warning_days)
    if not facts.now <= deadline <= facts.now + ahead:
        return None
    mail = MailKey(MailType.DESTRUCTION_WARNING, cycle_of(suspended_at))
    return _advice(send_once(account, mail, {"destruction_deadline": deadline}))


def warn_of_trial_end(account: Account, row: Subscription, facts: Circumstances) -> Decision | None:
    """KC-75: the last day's warning instead of the earlier one, never both at once."""
    if row.status != "trialing" or not row.trial_ends_at or row.trial_ends_at <= facts.now:
        return None
    terms, left = facts.catalogue.kiloclaw.trial, row.trial_ends_at - facts.now
    if left > timedelta(days=terms.early_warning_days):
        return None
    late = left <= timedelta(days=terms.late_warning_days)
    mail = MailKey(MailType.TRIAL_1D if late else MailType.TRIAL_5D)
    return _advice(send_once(account, mail, {"trial_ends_at": row.trial_ends_at}))


def earlybird_warning_due(catalogue: Catalogue, now: datetime) -> MailType | None:
    """Which warning KC-76 asks for now; the same for everyone, since all purchases end on the same day."""
    terms = catalogue.kiloclaw.earlybird
    left = terms.access_until - now
    if not timedelta(0) < left <= timedelta(days=terms.early_warning_days):
        return None
    return MailType.EARLYBIRD_1D if left <= timedelta(days=terms.late_warning_days) else MailType.EARLYBIRD_14D


def warn_of_earlybird_end(account: Account, facts: Circumstances) -> Decision | None:
    """KC-76: only who has no active or trialing row; who never had one as well."""
    hosting, mail = hosting_of(account), earlybird_warning_due(facts.catalogue, facts.now)
    covered = hosting.subscription is not None and hosting.subscription.status in ("active", "trialing")
    if mail is None or covered or hosting.earlybird_payment_id is None:
        return None
    ends_at = facts.catalogue.kiloclaw.earlybird.access_until
    return _advice(send_once(account, MailKey(mail), {"earlybird_ends_at": ends_at}))


def _of_row(rule: RowRule) -> Rule:
    """The rule for whoever has a row."""

    def applied(account: Account, facts: Circumstances) -> Decision | None:
        row = hosting_of(account).subscription
        return rule(account, row, facts) if row else None

    return applied


def _against_row(rule: RowRule) -> Rule:
    """The rule that suspends, stops, warns or destroys: not while a failed renewal is an operator's (CR-62)."""
    of_row = _of_row(rule)

    def applied(account: Account, facts: Circumstances) -> Decision | None:
        return None if hosting_of(account).is_protected else of_row(account, facts)

    return applied


# Enforcement before advice, in the order of rules/kiloclaw.md; the keys are the names of the sweeps.
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "credit_renewal": _of_row(renew_from_credits),
        "resume": _of_row(resume_interrupted),
        "trial_expiry": _against_row(suspend_expired_trial),
        "period_expiry": _against_row(suspend_ended_period),
        "destruction": _against_row(destroy_overdue),
        "past_due": _against_row(suspend_past_due),
        "destruction_warning": _against_row(warn_of_destruction),
        "trial_warning": _against_row(warn_of_trial_end),
        "earlybird_warning": warn_of_earlybird_end,
    }
)


def enforce(account: Account, facts: Circumstances, only: Collection[str] = tuple(RULES)) -> Decision:
    """Apply every rule of `only` that is due, in order, each to what the one before left."""
    whole = Decision(account)
    for name, rule in RULES.items():
        decided = rule(whole.account, facts) if name in only else None
        if decided:
            whole = whole.then(decided)
    return whole if whole.counts or whole.account is not account else Decision.nothing(account, "stale")


def _advice(decision: Decision) -> Decision:
    return replace(decision, reason="warned") if decision.steps else decision


def _covered_by_earlybird(account: Account, facts: Circumstances) -> bool:
    return earlybird_covers(hosting_of(account), facts.catalogue, facts.now)


def _is_known_to_stripe(account: Account) -> bool:
    """By the profile, the row, or an event that came early: whoever may pay there."""
    targets = read_targets(account)
    return bool(targets.customer_ids or targets.subscription_ids)
