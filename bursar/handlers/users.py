"""What the product tells about a user: the profile, and a Stripe customer whose events may have come before (KC-31)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bursar.billing.account import Account, Profile, customer_key, user_key
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.kiloclaw.stripe_events import reading
from bursar.db import accounts, early_events, steps
from bursar.db.connections import Connection
from bursar.db.decide import Limits
from bursar.db.items import Decide, Item, Situation

PARTS = frozenset[type[Any]]({Profile, Hosting})


def profile_item(command_id: str, user_id: str, changes: Mapping[str, Any], *, remembered: bool) -> Item:
    """Change the named fields of a profile, keep the rest; `remembered`: events wait for its Stripe customer."""
    return Item(command_id, user_key(user_id), PARTS, _telling(changes, remembered=remembered), actor="api")


async def is_remembered(connection: Connection, stripe_customer_id: str | None) -> bool:
    """Whether events were remembered for that customer before its user was known."""
    return stripe_customer_id is not None and await early_events.any_of(connection, customer_key(stripe_customer_id))


async def adopt_remembered(
    connection: Connection, command_id: str, user_id: str, stripe_customer_id: str, situation: Situation, limits: Limits
) -> int:
    """Give the user what was remembered for the customer, and have Stripe asked; returns how many events moved.

    It follows the registration in a transaction of its own: both accounts are locked, in the one order.
    """
    source, target = customer_key(stripe_customer_id), user_key(user_id)
    await accounts.make_accounts(connection, {source, target}, limits.partitions)
    async with connection.transaction():
        await accounts.lock_accounts(connection, [source, target])
        moved = await early_events.move(connection, source, target)
        if moved:
            await accounts.touch_accounts(connection, [source, target])
            asked = reading(Account(target), "adopted").steps
            await steps.ask(connection, [steps.Wanted(target, step, command_id) for step in asked], situation.real_now)
    return moved


def _telling(changes: Mapping[str, Any], *, remembered: bool) -> Decide:
    def decide(account: Account, _: Situation) -> Decision:
        known = account.part(Profile)
        told = replace(known, **changes)
        if told == known:
            return Decision(account, result=_shown(known))
        saved = account.having(told)
        registers = told.stripe_customer_id != known.stripe_customer_id
        asked = reading(saved, "registered").steps if registers and remembered else ()
        return Decision(saved, asked, reason="told by the product", counts={"profiles": 1}, result=_shown(told))

    return decide


def _shown(profile: Profile) -> dict[str, Any]:
    return {
        "user_id": profile.user_id,
        "email": profile.email,
        "name": profile.name,
        "stripe_customer_id": profile.stripe_customer_id,
        "auto_top_up": profile.auto_top_up,
    }
