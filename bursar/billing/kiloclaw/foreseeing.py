"""What a sweep would do to an account (KC-79): the same rules as `enforce`, told instead of carried out."""

from collections.abc import Collection
from typing import Literal

from bursar.billing.account import Account
from bursar.billing.credits.renewal import RENEWED
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.enforcement import RULES, Circumstances, enforce
from bursar.billing.kiloclaw.outcomes import instance_brought_about
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.steps import StepKind
from bursar.billing.values import Value, replace

EffectKind = Literal["suspension", "destruction", "start", "mail"]

IF_NOTHING_LIVE = "if Stripe, asked right before, knows nothing live"
NOT_TODAY = "not today: the day's destructions are used up"
ONCE_GONE = "once the instance is gone"
MAX_PERIODS = 120  # charged by one tick, as far as is looked ahead


class Effect(Value):
    """One thing that a sweep would cause. `subject` is the mail's type, else the instance, if there is one.

    `condition` is what would have to hold as well; empty for what is certain.
    """

    sweep: str
    kind: EffectKind
    account_key: str
    subject: str | None
    reason: str
    condition: str = ""


def foresee(account: Account, facts: Circumstances, plan: Collection[str]) -> list[Effect]:
    """Every effect of the plan's sweeps on an account, in the order of the rules, each on what the one before left.

    A sweep of renewals charges one period after the other (CR-32).
    """
    effects: list[Effect] = []
    for sweep in (name for name in RULES if name in plan):
        for _ in range(MAX_PERIODS):
            decided, conditions = _decided(account, facts, sweep)
            effects += _effects(account, decided, facts, sweep, conditions)
            account = account if NOT_TODAY in conditions else decided.account
            if RENEWED not in decided.counts:
                break
    return effects


def first_to_act(account: Account, facts: Circumstances, plan: Collection[str]) -> str | None:
    """The first of the plan's sweeps that would do something to an account as it stands, be it nothing to be listed."""
    for sweep in (name for name in RULES if name in plan):
        decided, _ = _decided(account, facts, sweep)
        if decided.account is not account or decided.steps:
            return sweep
    return None


def _decided(account: Account, facts: Circumstances, sweep: str) -> tuple[Decision, tuple[str, ...]]:
    """What the rule would decide in the end, and what it would wait for before."""
    conditions: tuple[str, ...] = ()
    decided = enforce(account, facts, {sweep})
    if "interlock_asked" in decided.counts:
        facts, conditions = replace(facts, stripe_just_read=True), (IF_NOTHING_LIVE,)
        decided = enforce(account, facts, {sweep})
    if "deferred_by_cap" in decided.counts:
        decided, conditions = enforce(account, replace(facts, slot_left=True), {sweep}), (*conditions, NOT_TODAY)
    return decided, conditions


def _effects(
    before: Account, decided: Decision, facts: Circumstances, sweep: str, conditions: tuple[str, ...]
) -> list[Effect]:
    condition = "; ".join(conditions)
    effects = [
        Effect(sweep, kind, before.key, subject, decided.reason, condition)
        for kind, subject in _changes(before, decided.account)
    ]
    effects += [Effect(sweep, "mail", before.key, mail, decided.reason, condition) for mail in _mails(decided)]
    gone = _gone(decided, facts) if decided.destruction_slots else ()
    later = "; ".join((*conditions, ONCE_GONE))
    return effects + [Effect(sweep, "mail", before.key, mail, "instance destroyed", later) for mail in gone]


def _changes(before: Account, after: Account) -> list[tuple[EffectKind, str | None]]:
    was, becomes = hosting_of(before), hosting_of(after)
    changes: list[tuple[EffectKind, str | None]] = []
    if (
        becomes.subscription
        and becomes.subscription.suspended_at
        and not (was.subscription and was.subscription.suspended_at)
    ):
        changes.append(("suspension", becomes.subscription.instance_id))
    known = {instance.id: instance for instance in was.instances}
    for instance in becomes.instances:
        former = known[instance.id]
        if instance.destroying_since and not former.destroying_since:
            changes.append(("destruction", instance.id))
        elif instance.desired_state == "running" and former.desired_state != "running":
            changes.append(("start", instance.id))
    return changes


def _mails(decided: Decision) -> tuple[str, ...]:
    return tuple(str(step.payload["email_type"]) for step in decided.steps if step.kind is StepKind.SEND_MAIL)


def _gone(decided: Decision, facts: Circumstances) -> tuple[str, ...]:
    """The mails that follow when the instance API has destroyed what the decision marked."""
    marked = [one for one in hosting_of(decided.account).instances if one.destroying_since and not one.destroyed_at]
    account = decided.account
    mails: tuple[str, ...] = ()
    for instance in marked:
        outcome = instance_brought_about(account, instance.id, instance.generation, facts.now)
        account, mails = outcome.account, mails + _mails(outcome)
    return mails
