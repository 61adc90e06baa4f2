"""What the product tells about a user: the profile, and a Stripe customer whose events may have come before (KC-31)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bursar.billing.account import Account, Profile, customer_key, user_key
from bursar.billing.decision import Decision
from bursar.billing.errors import AskAgain, UnreadableMessage
from bursar.billing.kiloclaw.deletion import delete_user
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.kiloclaw.stripe_events import reading
from bursar.billing.operations import Operations
from bursar.billing.steps import Step
from bursar.billing.values import replace
from bursar.db import deletion, early_events, parked, steps
from bursar.db.connections import Connection
from bursar.db.decide import Also
from bursar.db.items import Decide, Dedupe, Item, Outcome, OutcomeState, Situation
from bursar.handlers.messages import ReceivedMessage, too_late

PARTS = frozenset[type[Any]]({Profile})
MAX_WAITING = 100  # messages of one user that wait when they are deleted; mostly none
DELETION_PARTS = frozenset[type[Any]]({Profile, Hosting, Operations})


def profile_item(command_id: str, user_id: str, changes: Mapping[str, Any]) -> Item:
    """Change the named fields of a profile, keep the rest."""
    return Item(command_id, user_key(user_id), PARTS, _telling(changes), actor="api")


def customer_item(command_id: str, stripe_customer_id: str) -> Item:
    """Changes nothing: it locks the customer's account, so that no event is remembered there meanwhile."""
    key = customer_key(stripe_customer_id)
    return Item(f"{command_id}:{key}", key, frozenset(), lambda account, _: Decision(account), Dedupe.STATE)


def adopting(profile: Item, stripe_customer_id: str, real_now: datetime) -> Also:
    """Give the user what was remembered for the customer, and have Stripe asked, together with `profile` (KC-31)."""

    async def also(connection: Connection, outcomes: Sequence[Outcome]) -> None:
        if all(one.item is not profile or one.state is OutcomeState.FAILED for one in outcomes):
            return
        if await early_events.move(connection, customer_key(stripe_customer_id), profile.key):
            asked = reading(Account(profile.key), "adopted").steps
            await steps.ask(connection, [steps.Wanted(profile.key, step, profile.id) for step in asked], real_now)

    return also


def deletion_item(command_id: str, user_id: str, customer_ids: Sequence[str]) -> Item:
    """Delete the user where the rules allow it (KC-120); with `erasing` beside it."""
    return Item(
        command_id,
        user_key(user_id),
        DELETION_PARTS,
        lambda account, facts: delete_user(account, customer_ids, facts.now),
        Dedupe.STATE,
        actor="api",
    )


def erasing(asked: Item, gone: deletion.Deletion) -> Also:
    """Erase the user together with the decision that allowed it; `AskAgain` where another customer is known by now.
    Money of which only a message that waits for its retry knows goes back (KC-121).
    """

    async def also(connection: Connection, outcomes: Sequence[Outcome]) -> None:
        if all(one.item is not asked or one.state is not OutcomeState.APPLIED for one in outcomes):
            return
        if not set(await deletion.customers_of(connection, gone.user_id)) <= set(gone.customer_ids):
            raise AskAgain("the user has a further customer")
        waiting = await parked.waiting_of(connection, gone.keys, MAX_WAITING)
        tombstone = await deletion.erase(connection, gone)
        owed = [steps.Wanted(tombstone, step, one.message_id) for one in waiting for step in _too_late(gone.key, one)]
        if owed:
            await steps.ask(connection, owed, gone.real_now)

    return also


def _too_late(key: str, waiting: parked.ParkedMessage) -> tuple[Step, ...]:
    """What a message that waits for its retry, and is emptied with its user, still causes (KC-121)."""
    message = ReceivedMessage(waiting.message_id, waiting.type, key, waiting.body)
    try:
        return too_late(Account(key), message).steps
    except UnreadableMessage:
        return ()


def _telling(changes: Mapping[str, Any]) -> Decide:
    def decide(account: Account, _: Situation) -> Decision:
        known = account.part(Profile)
        told = replace(known, **changes)
        saved = account if told == known else account.having(told)
        return Decision(saved, reason="told by the product", result=_shown(told))

    return decide


def _shown(profile: Profile) -> dict[str, Any]:
    return {
        "user_id": profile.user_id,
        "email": profile.email,
        "name": profile.name,
        "stripe_customer_id": profile.stripe_customer_id,
        "auto_top_up": profile.auto_top_up,
    }
