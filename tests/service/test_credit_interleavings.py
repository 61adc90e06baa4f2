"""Settlement, renewal, enrolment, purchases, deposits and deletion of one user at once, 200 rounds, on a real database:
no deadlock, no overdraft, and each balance is the sum of its entries (CR-2, CR-5, CR-51).
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from bursar.billing.account import user_key
from bursar.billing.credits.enrolment import Enrolment
from bursar.billing.errors import BursarError, Refused, Retryable
from bursar.billing.values import replace
from bursar.db.credit_audit import audit_page
from bursar.db.items import Item, OutcomeState
from bursar.handlers.credits import enrolment_item
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.service.web.deleting import deleted, known_again
from tests.billing.credits.crediting import a_credit_row
from tests.billing.credits.settling import METADATA, invoice_json
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW, event_json, subscription_json
from tests.service.crediting import hosted
from tests.service.steps.acting import Acting, acting
from tests.service.test_credit_concurrency import OVERDRAFTS, buying, ending, renewing

ROUNDS, AT_ONCE = 200, 6
FEW = 12  # invoices, payments and requests of a life: some come twice
ADA = user_key("ada")


@dataclass
class Lives:
    """Ada comes back after each deletion, with another subscription."""

    worker: Acting
    chance: random.Random
    number: int = 0
    ended: Counter[str] = field(default_factory=Counter)

    async def round(self) -> None:
        self.worker.clock.now += self.chance.randrange(4) * DAY
        await asyncio.gather(*(one() for one in self._some()))

    def _some(self) -> Iterator[Callable[[], Awaitable[None]]]:
        kinds: list[tuple[str, Callable[[], Item]]] = [
            ("settlement", self._settling),
            ("settlement", self._settling),
            ("subscription", self._subscribing),
            ("renewal", lambda: renewing(self.worker, self.chance.randrange(1_000_000))),
            ("enrolment", self._enrolling),
            ("purchase", lambda: buying(self._one_of_few())),
            ("deposit", self._depositing),
            ("ending", ending),
        ]
        for _ in range(AT_ONCE):
            if self.chance.random() < 0.05:
                yield self._delete
            else:
                name, make = self.chance.choice(kinds)
                yield partial(self._decide, name, make())

    def _enrolling(self) -> Item:
        wanted = Enrolment("standard", f"inst-{self.number}", f"command:{self._one_of_few()}")
        return enrolment_item("ada", wanted, CATALOGUE)

    def _one_of_few(self) -> int:
        return self.number * FEW + self.chance.randrange(FEW)

    async def _decide(self, name: str, item: Item) -> None:
        (outcome,) = await self.worker.decider.decide([item])
        error = outcome.error
        assert error is None or (isinstance(error, BursarError) and not isinstance(error, Retryable)), error
        self.ended[name] += outcome.state is OutcomeState.APPLIED
        self.ended[f"{name} refused"] += error is not None

    async def _delete(self) -> None:
        try:
            await deleted(self.worker.decider, "ada", f"delete:{self.number}")
        except Refused:
            self.ended["deletion refused"] += 1
            return
        self.number += 1
        self.ended["deletion"] += 1
        await known_again(self.worker.decider, "ada", None)

    def _subscribing(self) -> Item:
        kind = self.chance.choice(("created", "deleted"))
        body = subscription_json(id=self._subscription_id, metadata=METADATA)
        if kind == "deleted":
            body |= {"status": "canceled", "ended_at": int(self.worker.clock.now.timestamp())}
        return self._message(f"customer.subscription.{kind}", body)

    def _settling(self) -> Item:
        number = self._one_of_few()
        starts_at = NOW + (number % FEW) * 30 * DAY
        invoice = invoice_json(
            id=f"in_{number}", subscription=self._subscription_id, start=starts_at, end=starts_at + 30 * DAY
        )
        return self._message("invoice.paid", invoice)

    def _depositing(self) -> Item:
        """What waits for the money is renewed with it (CR-40)."""
        payment = {
            "object": "payment_intent",
            "id": f"pi_{self._one_of_few()}",
            "amount_received": 3_000,
            "currency": "usd",
            "metadata": {"type": "credit_topup", "userId": "ada"},
        }
        return self._message("payment_intent.succeeded", payment)

    @property
    def _subscription_id(self) -> str:
        return f"sub_{self.number}"

    def _message(self, event_type: str, body: dict[str, Any]) -> Item:
        event = event_json(event_type, body, self.worker.clock.now, f"evt_{self.chance.getrandbits(64)}")
        message = ReceivedMessage(event["id"], f"stripe.{event_type}", ADA, orjson.dumps(event))
        return item_of(message, ADA, CATALOGUE)


async def test_cr_5_two_hundred_rounds_of_everything_at_once(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, replace(a_credit_row(), credit_renewal_at=NOW, current_period_end=NOW), 60)
        lives = Lives(worker, random.Random(2_026))
        for _ in range(ROUNDS):
            await lives.round()
            async with worker.decider.pool.acquire() as connection:
                assert [one for one in await audit_page(connection, "", 10) if not one.fits] == []

        happened = ("settlement", "subscription", "renewal", "enrolment", "purchase", "deposit", "ending", "deletion")
        assert [name for name in happened if not lives.ended[name]] == [], lives.ended
        entries = dict(await worker.fetch("SELECT kind, count(*) FROM credit_transactions GROUP BY kind"))
        assert entries["settlement_deposit"] == entries["settlement_charge"] > 0
        assert entries["charge"] > 0
        assert await worker.fetch(OVERDRAFTS) == []
        assert await worker.fetch(DEADLOCKS) == [(0,)]


DEADLOCKS = "SELECT deadlocks::integer FROM pg_stat_database WHERE datname = current_database()"
