"""A decider on a real database, and items for it."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bursar.billing.account import Account, Profile
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.kiloclaw.stripe_events import subscription_event
from bursar.db.connections import LOCK_TIMEOUT, Connection, open_pool
from bursar.db.decide import Limits
from bursar.db.items import Dedupe, Item, MessageCopy, Situation
from bursar.service.deciding.decider import Decider
from tests.billing.kiloclaw.making import CATALOGUE, NOW, an_event

REAL_NOW = NOW + timedelta(days=100)  # far from business time, so that a mix-up of the clocks shows
PARTS = frozenset[type[Any]]({Hosting, Profile})


@dataclass
class StandingClock:
    """Both clocks stand still until the test moves them."""

    now: datetime = NOW
    real_now: datetime = REAL_NOW

    async def situation(self, _: Connection) -> Situation:
        return Situation(self.now, self.real_now)


@asynccontextmanager
async def a_decider(
    database_url: str,
    clock: StandingClock | None = None,
    destructions_per_day: int = 500,
    lock_timeout: timedelta = LOCK_TIMEOUT,
) -> Any:
    pool = await open_pool(database_url, max_size=4, name="test", lock_timeout=lock_timeout)
    try:
        yield Decider(pool, clock or StandingClock(), Limits(32, destructions_per_day))
    finally:
        await pool.close()


def an_item(item_id: str, user: str = "ada", decide: Callable[[Account], Decision] = Decision, **changes: Any) -> Item:
    """A message for that user with that decision."""
    fields: dict[str, Any] = {
        "copy": MessageCopy("stripe.test", {"account": f"user:{user}"}, b"{}"),
        "dedupe": Dedupe.INBOX,
    } | changes
    return Item(item_id, f"user:{user}", PARTS, lambda account, _: decide(account), **fields)


def a_subscription_item(item_id: str, user: str = "ada", **event: Any) -> Item:
    """Stripe's word on the user's subscription, as a message."""
    metadata = {"type": "kiloclaw", "userId": user, "plan": "standard"}
    fields = {"kind": "created", "id": f"sub_{user}", "customer": f"cus_{user}", "metadata": metadata} | event
    parsed = an_event(event_id=item_id, **fields)
    return an_item(item_id, user, lambda account: subscription_event(account, parsed, CATALOGUE))
