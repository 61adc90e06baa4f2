"""The product's commands on hosted instances (KC-10…KC-12, KC-20…KC-23, KC-50…KC-53), as items for `decide_batch`."""

from collections.abc import Callable
from typing import Any

from bursar.billing.account import Account, Profile, user_key
from bursar.billing.catalogue import Catalogue
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.operations.cancel import cancel
from bursar.billing.kiloclaw.operations.checkout import WantedCheckout, check_out
from bursar.billing.kiloclaw.operations.reactivate import reactivate
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.kiloclaw.trial import provision, record_destroyed_by_user, record_earlybird, start_trial
from bursar.billing.operations import Operations
from bursar.db.items import Item, NewLease, Situation

PARTS = frozenset[type[Any]]({Hosting})
OPERATION_PARTS = frozenset[type[Any]]({Profile, Hosting, Operations})


def trial_item(command_id: str, user_id: str, catalogue: Catalogue) -> Item:
    """Start the trial (KC-10)."""
    return _item(command_id, user_id, lambda account, facts: start_trial(account, catalogue, facts.now, command_id))


def provision_item(command_id: str, user_id: str, instance_id: str, catalogue: Catalogue) -> Item:
    """Allow an instance (KC-12)."""

    def decide(account: Account, facts: Situation) -> Decision:
        return provision(account, instance_id, catalogue, facts.now, command_id)

    return _item(command_id, user_id, decide)


def destroyed_item(command_id: str, user_id: str, instance_id: str) -> Item:
    """Record that the user destroyed an instance (KC-12)."""
    return _item(command_id, user_id, lambda account, facts: record_destroyed_by_user(account, instance_id, facts.now))


def earlybird_item(command_id: str, user_id: str, payment_id: str, catalogue: Catalogue) -> Item:
    """Record the one-time purchase."""

    def decide(account: Account, facts: Situation) -> Decision:
        return record_earlybird(account, payment_id, catalogue, facts.now)

    return _item(command_id, user_id, decide)


def checkout_item(command_id: str, user_id: str, wanted: WantedCheckout, catalogue: Catalogue, lease: NewLease) -> Item:
    """Open a page on which the user subscribes (KC-20…KC-23)."""

    def decide(account: Account, facts: Situation) -> Decision:
        return check_out(account, wanted, catalogue, facts.now, command_id)

    return _operation_item(command_id, user_id, decide, lease)


def cancel_item(command_id: str, user_id: str, lease: NewLease) -> Item:
    """Cancel at the period's end (KC-50, KC-53)."""
    return _operation_item(command_id, user_id, lambda account, _: cancel(account, command_id), lease)


def reactivate_item(command_id: str, user_id: str, catalogue: Catalogue, lease: NewLease) -> Item:
    """Take a pending cancellation back (KC-52, KC-53)."""
    return _operation_item(command_id, user_id, lambda account, _: reactivate(account, catalogue, command_id), lease)


def _operation_item(
    command_id: str, user_id: str, decide: Callable[[Account, Situation], Decision], lease: NewLease
) -> Item:
    return Item(command_id, user_key(user_id), OPERATION_PARTS, decide, actor="api", lease=lease)


def _item(command_id: str, user_id: str, decide: Callable[[Account, Situation], Decision]) -> Item:
    return Item(command_id, user_key(user_id), PARTS, decide, actor="api")
