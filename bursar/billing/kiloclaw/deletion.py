"""Deleting a user (KC-120): when it is refused, and what must still happen outside."""

from collections.abc import Iterable
from datetime import datetime

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.endings import end_subscription
from bursar.billing.kiloclaw.rows import Hosting, Instance, Subscription, hosting_of
from bursar.billing.operations import Operations
from bursar.billing.steps import Step, StepKind
from bursar.billing.values import replace


def delete_user(account: Account, customer_ids: Iterable[str], now: datetime) -> Decision:
    """Have every live instance destroyed and every subscription ended at Stripe (parts: Profile, Hosting, Operations);
    with them whatever those customers of the user left open there, or bought and we did not hear of yet.

    The rows are erased in the same transaction (`db/deletion.py`); the steps and the instances outlive them.
    """
    hosting = hosting_of(account)
    if hosting.subscription and _is_owed_or_runs_on(hosting.subscription):
        raise Refused("user_not_deletable", "The subscription is active or unpaid: cancel it first.", status=409)
    under_way = account.part(Operations)
    if under_way.open_keys or under_way.keeps_schedule or under_way.tops_up:
        raise Refused("operation_in_progress", "A change of this account at Stripe is under way.", status=409)
    instances = tuple(one if one.destroyed_at else _doomed(one, now) for one in hosting.instances)
    doomed = account.having(replace(hosting, instances=instances))
    endings = (*map(end_subscription, _subscription_ids(hosting)), *map(_end_customer, customer_ids))
    return Decision(doomed, endings, reason="user deleted")


def _is_owed_or_runs_on(row: Subscription) -> bool:
    runs_on = row.status == "active" and not row.cancel_at_period_end
    return runs_on or row.status in ("past_due", "unpaid")


def _doomed(instance: Instance, now: datetime) -> Instance:
    """A new generation even where its end is wanted already: the call that is under way answers to nobody."""
    wanted = instance.wanting("destroyed")
    renewed = wanted if wanted is not instance else replace(instance, generation=instance.generation + 1)
    return replace(renewed, destroying_since=instance.destroying_since or now)


def _subscription_ids(hosting: Hosting) -> tuple[str, ...]:
    """The row's, however it stands there, and those that no row was bound to yet (KC-31)."""
    bound = hosting.subscription.stripe_subscription_id if hosting.subscription else None
    known = [bound, *(early.stripe_subscription_id for early in hosting.early_events)]
    return tuple(dict.fromkeys(one for one in known if one))


def _end_customer(customer_id: str) -> Step:
    """Coalesced: a user who is told of again under that customer may be deleted again before it is done."""
    payload = {"stripe_customer_id": customer_id}
    return Step(StepKind.END_CUSTOMER, f"end-customer:{customer_id}", payload, coalesced=True)
