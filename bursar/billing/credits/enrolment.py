"""Enrolment: paying hosting from credits, beginning now (CR-20…CR-25)."""

from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from bursar.billing.account import Account, Profile, user_id_of
from bursar.billing.catalogue import Catalogue, PaidPlan
from bursar.billing.credits.ledger import Credits, credits_of, with_entry
from bursar.billing.credits.periods import hosting_charge, in_period
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.endings import DELIVERED_WITHIN
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import Hosting, Instance, Subscription, hosting_of, with_instance
from bursar.billing.kiloclaw.stripe_events import CREATED, DELETED, reading
from bursar.billing.kiloclaw.suspension import start_again
from bursar.billing.operations import IN_PROGRESS, Operations
from bursar.billing.steps import Step
from bursar.billing.values import Value, replace

SUBSCRIBED = frozenset({"active", "past_due", "unpaid"})


class Enrolment(Value):
    """What the user asks for; `command_id` is what makes the request one and the same (CR-23)."""

    plan: PaidPlan
    instance_id: str
    command_id: str


def enroll(account: Account, asked: Enrolment, catalogue: Catalogue, now: datetime) -> Decision:
    """Charge the first period and make the row active with it, or neither (parts: Profile, Hosting, Credits,
    Operations).

    Raises `InsufficientCredits` with the shortfall (CR-21), `Refused` where the row, another change under way or the
    instance is in the way. The same request again finds its own charge and answers as it stands.
    """
    business_key = f"kiloclaw-enrollment:{asked.command_id}"
    if credits_of(account).has(business_key):
        return Decision(account, result=_result(account))
    hosting = hosting_of(account)
    _require_free(hosting, account.part(Operations), now)
    instance = _instance(account, asked.instance_id, now)
    terms = catalogue.kiloclaw.credits
    charged = with_entry(account, hosting_charge(asked.plan, business_key, terms, asked.command_id))
    fresh = _fresh(hosting.subscription, user_id_of(account.key) or account.key, asked.command_id, now)
    row = replace(in_period(fresh, asked.plan, now, terms), instance_id=instance.id)
    enrolled = start_again(with_row(with_instance(charged, instance), row))
    done = Decision(enrolled, reason="enrolled with credits", counts={"enrolled": 1}, result=_result(enrolled))
    return replace(done, steps=_looking_at_stripe(account))


def _looking_at_stripe(account: Account) -> tuple[Step, ...]:
    """CR-25: what a customer has at Stripe unheard of, or `paused`, is found by a read, and ends there."""
    row = hosting_of(account).subscription
    is_known_there = account.part(Profile).stripe_customer_id or (row and row.stripe_customer_id)
    return reading(account, "enrolled").steps if is_known_there else ()


def _require_free(hosting: Hosting, under_way: Operations, now: datetime) -> None:
    """CR-20, CR-25: nothing that is paid for, here or at Stripe, and nothing that may yet begin there."""
    row = hosting.subscription
    if row and row.status in SUBSCRIBED:
        raise Refused("already_subscribed", "You already have a subscription.")
    if _may_begin_at_stripe(hosting, now):
        raise Refused("already_subscribed", "A subscription at Stripe is about to begin.")
    if under_way.open_keys:
        raise Refused(*IN_PROGRESS, status=409)


def _may_begin_at_stripe(hosting: Hosting, now: datetime) -> bool:
    """Whether anything was heard of a subscription that is not bound: its `created` comes while Stripe sends again,
    or has come and is being read. Older signs are a former subscription's.
    """
    gone = {early.stripe_subscription_id for early in hosting.early_events if early.type == DELETED}
    old = now - DELIVERED_WITHIN
    return any(
        early.stripe_subscription_id not in gone and (early.type == CREATED or early.occurred_at > old)
        for early in hosting.early_events
    )


def _instance(account: Account, instance_id: str, now: datetime) -> Instance:
    """The user's live instance; one that nobody knows yet is the one about to be made (saving refuses another's)."""
    hosting = hosting_of(account)
    known = next((one for one in hosting.instances if one.id == instance_id), None)
    if known and not known.is_live:
        raise Refused("instance_destroyed", "That instance was destroyed; provision a new one.", status=409)
    if hosting.live_instance and hosting.live_instance is not known:
        raise Refused("instance_exists", "You already have an instance.", status=409)
    return known or Instance(id=instance_id, account_key=account.key, created_at=now)


def _fresh(row: Subscription | None, user_id: str, cause: str, now: datetime) -> Subscription:
    """The user's row without anything of a former subscription; its trial and its customer stay known."""
    return Subscription(
        id=row.id if row else _row_id(user_id, cause),
        user_id=user_id,
        plan="standard",
        status="active",
        version=row.version if row else 0,
        stripe_customer_id=row.stripe_customer_id if row else None,
        trial_started_at=row.trial_started_at if row else None,
        trial_ends_at=row.trial_ends_at if row else None,
        created_at=row.created_at if row else now,
    )


def _row_id(user_id: str, cause: str) -> UUID:
    return uuid5(NAMESPACE_URL, f"kiloclaw-subscription:{user_id}:{cause}")


def _result(account: Account) -> dict[str, Any]:
    row, credit = hosting_of(account).subscription, account.part(Credits)
    shown = {"balance_microdollars": credit.balance_microdollars}
    if row is None:
        return shown
    return shown | {
        "plan": row.plan,
        "status": row.status,
        "current_period_end": row.current_period_end.isoformat() if row.current_period_end else None,
        "commit_ends_at": row.commit_ends_at.isoformat() if row.commit_ends_at else None,
    }
