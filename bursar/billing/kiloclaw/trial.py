"""Trials, provisioning and earlybird purchases (KC-10…KC-12)."""

from datetime import datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

from bursar.billing.account import Account, user_id_of
from bursar.billing.catalogue import Catalogue
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.access import access, earlybird_covers, trial_eligible
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import Instance, Subscription, hosting_of
from bursar.billing.kiloclaw.status import refusal_reason
from bursar.billing.kiloclaw.suspension import resumed
from bursar.billing.values import replace


def start_trial(account: Account, catalogue: Catalogue, now: datetime, cause: str) -> Decision:
    """Create the trial: trialing, ending after the catalogue's days (KC-10); the same cause finds its own one again."""
    hosting = hosting_of(account)
    user_id = user_id_of(account.key) or account.key
    row_id = uuid5(NAMESPACE_URL, f"kiloclaw-subscription:{user_id}:{cause}")
    if hosting.subscription is not None and hosting.subscription.id == row_id:
        return Decision(account, result=_trial_result(hosting.subscription))
    if hosting.subscription is not None:
        raise Refused("already_subscribed", "You already have a subscription.")
    if not trial_eligible(hosting):
        raise Refused("trial_not_eligible", "The free trial was used already.", status=403)
    row = Subscription(
        id=row_id,
        user_id=user_id,
        plan="trial",
        status="trialing",
        trial_started_at=now,
        trial_ends_at=now + timedelta(days=catalogue.kiloclaw.trial.days),
        created_at=now,
    )
    return Decision(with_row(account, row), reason="trial started", result=_trial_result(row))


def provision(account: Account, instance_id: str, catalogue: Catalogue, now: datetime, cause: str) -> Decision:
    """Allow an instance to those with access, or with a trial to those eligible for one; else refuse (KC-12)."""
    hosting = hosting_of(account)
    known = next((one for one in hosting.instances if one.id == instance_id), None)
    if known and not known.is_live:
        raise Refused("instance_destroyed", "That instance was destroyed; provision a new one.", status=409)
    if not access(hosting, catalogue, now).granted:
        if not trial_eligible(hosting):
            raise _uncovered(refusal_reason(hosting, catalogue, now))
        account = start_trial(account, catalogue, now, cause).account
    live = hosting.live_instance
    if live and live.id != instance_id:
        raise Refused("instance_exists", "You already have an instance.", status=409)
    instance = live or Instance(id=instance_id, account_key=account.key, created_at=now)
    provisioned = _pointing_to(account.having(hosting_of(account).with_instance(instance)), instance_id)
    kept = _kept_by_earlybird(provisioned, catalogue, now)
    return Decision(kept, reason="instance provisioned", result={"instance_id": instance_id})


def record_destroyed_by_user(account: Account, instance_id: str, now: datetime) -> Decision:
    """Record that the user destroyed an instance; a suspension of the row stays (KC-12)."""
    hosting = hosting_of(account)
    instance = next((one for one in hosting.instances if one.id == instance_id), None)
    if instance is None:
        raise Refused("unknown_instance", "There is no such instance.", status=404)
    if instance.destroyed_at:
        return Decision(account, result={"instance_id": instance_id})
    gone = instance.wanting("destroyed")
    gone = replace(gone, done_generation=gone.generation, destroyed_at=now)
    return Decision(
        account.having(hosting.with_instance(gone)), reason="destroyed by the user", result={"instance_id": instance_id}
    )


def record_earlybird(account: Account, payment_id: str, catalogue: Catalogue, now: datetime) -> Decision:
    """Record the one-time purchase; the same payment again changes nothing.

    Bought while suspended, it brings the instance back as if it had been bought before (KC-90, KC-101).
    """
    hosting = hosting_of(account)
    if hosting.earlybird_payment_id not in (None, payment_id):
        raise Refused("already_purchased", "Earlybird access was bought already.")
    if hosting.earlybird_payment_id is None:
        hosting = replace(hosting, earlybird_payment_id=payment_id)
        account = account.having(hosting)
        if earlybird_covers(hosting, catalogue, now):
            account = resumed(account)
    return Decision(account, reason="earlybird bought", result={"payment_id": payment_id})


def _uncovered(reason: str) -> Refused:
    message = "There is no trial, subscription or purchase that covers an instance."
    return Refused("no_access", message, status=403, members={"hasAccess": False, "reason": reason})


def _kept_by_earlybird(account: Account, catalogue: Catalogue, now: datetime) -> Account:
    """A new instance that earlybird covers does not inherit the deadline of the one before (KC-76)."""
    hosting = hosting_of(account)
    is_doomed = hosting.subscription is not None and hosting.subscription.destruction_deadline is not None
    return resumed(account) if is_doomed and earlybird_covers(hosting, catalogue, now) else account


def _trial_result(row: Subscription) -> dict[str, str | None]:
    ends_at = row.trial_ends_at.isoformat() if row.trial_ends_at else None
    return {"plan": row.plan, "status": row.status, "trial_ends_at": ends_at}


def _pointing_to(account: Account, instance_id: str) -> Account:
    row = hosting_of(account).subscription
    if row is None or row.instance_id == instance_id:
        return account
    return with_row(account, replace(row, instance_id=instance_id))
