"""The stand-in as a story uses it: its address, the customer, its clock, what it holds and what it was asked."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime

import httpx

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in import checkout, customers, discounts, invoice_payments, payments, renewals
from bursar.service.stripe_stand_in.answering import Answering, Call
from bursar.service.stripe_stand_in.faults import Faults
from bursar.service.stripe_stand_in.passing_time import advance
from bursar.service.stripe_stand_in.selling import sell
from bursar.service.stripe_stand_in.world import COMMIT, STANDARD, Card, Policy, Price, World
from tests.stripe import webhooks
from tests.stripe.server import Server
from tests.stripe.validation import Description, description

WEBHOOK_SECRET = "whsec_stand_in_0123456789abcdef"  # made up
POST_TIMEOUT_SECONDS = 30.0


@dataclass(slots=True)
class StripeStandIn:
    """See README.md. Instants go in as datetimes or Unix seconds."""

    world: World
    faults: Faults
    server: Server
    base_url: str
    webhook_url: str | None = None
    webhook_secret: str = WEBHOOK_SECRET
    _delivered: int = field(default=0)

    @property
    def calls(self) -> list[Call]:
        """What it was asked, in that order: method, path, params, idempotency key."""
        return self.server.calls

    @property
    def events(self) -> list[JsonObject]:
        """What happened, in that order."""
        return self.world.events

    @property
    def mismatches(self) -> list[str]:
        """What did not agree with Stripe's description: of requests, answers and the objects of events."""
        known = description()
        events = {} if known is None else {one["type"]: _mismatch(known, one) for one in self.world.events}
        of_events = [f"{event_type}: {problem}" for event_type, problem in events.items() if problem]
        return [*self.server.answering.mismatches, *of_events]

    async def customer_pays(
        self, session_id: str, card: Card | None = Card.GOOD, *, promotion_code: str | None = None
    ) -> JsonObject:
        """The customer fills in the page; the completed session. Raises `CardDeclined` where the card is.

        Without a card only where the session asks for none.
        """
        return deepcopy(checkout.complete(self.world, session_id, card, promotion_code))

    async def customer_pays_invoice(self, invoice_id: str, card: Card = Card.GOOD) -> JsonObject:
        """The customer opens the invoice's page and pays with a new card."""
        invoice = self.world.get("invoice", invoice_id)
        method = customers.give_card(self.world, invoice["customer"], card)
        invoice_payments.attempt(self.world, invoice, method, on_session=True)
        return deepcopy(invoice)

    async def advance(self, to: datetime | int) -> None:
        """Walk to that instant through everything that falls due on the way, in the order of time."""
        advance(self.world, unix(to))

    def give_card(self, customer_id: str, card: Card) -> str:
        """The customer's new default card; the payment method's id."""
        return customers.give_card(self.world, customer_id, card)

    def subscribe(
        self, customer_id: str, price: Price = STANDARD, *, metadata: dict[str, str], trial_end: int | None = None
    ) -> JsonObject:
        """A subscription that no checkout made, paid with the customer's card: active, trialing or incomplete."""
        made = renewals.start(self.world, customer_id, [price.id], metadata=metadata, trial_end=trial_end)
        return deepcopy(made)

    def resume(self, subscription_id: str) -> None:
        """A paused subscription goes on."""
        renewals.resume(self.world, self.world.get("subscription", subscription_id))

    def coupon(self, coupon_id: str, *, percent_off: float, months: int | None = None) -> None:
        discounts.add_coupon(self.world, coupon_id, percent_off, months)

    def promotion_code(self, code: str, coupon_id: str) -> None:
        discounts.add_promotion_code(self.world, code, coupon_id)

    def refund(self, charge_id: str, cents: int | None = None) -> JsonObject:
        return payments.refund(self.world, charge_id, cents)

    def dispute(self, charge_id: str) -> JsonObject:
        return payments.dispute(self.world, charge_id)

    def close_dispute(self, dispute_id: str, *, won: bool) -> None:
        payments.close_dispute(self.world, dispute_id, won=won)

    def subscription(self, subscription_id: str) -> JsonObject:
        """A copy of it, as it stands."""
        return self.one("subscription", subscription_id)

    def one(self, kind: str, key: str) -> JsonObject:
        """A copy of an object of this kind."""
        return deepcopy(self.world.get(kind, key))

    def all(self, kind: str, **fields: object) -> list[JsonObject]:
        """Copies of the objects with these fields, oldest first."""
        return deepcopy(self.world.all(kind, **fields))

    async def deliver_to(self, post: webhooks.Post, *, shuffle: int | None = None, doubled: float = 0.0) -> int:
        """Post what was not posted yet: in order or shuffled by a seed, that share of it twice. How many events."""
        new = self.world.events[self._delivered :]
        self._delivered = len(self.world.events)
        await webhooks.deliver(post, webhooks.in_order(new, shuffle=shuffle, doubled=doubled), self.webhook_secret)
        return len(new)

    async def deliver(self, *, shuffle: int | None = None, doubled: float = 0.0) -> int:
        """Likewise, over HTTP to `webhook_url`."""
        if self.webhook_url is None:
            raise ValueError("there is no webhook_url to deliver to")
        async with httpx.AsyncClient(timeout=POST_TIMEOUT_SECONDS) as http:
            url = self.webhook_url

            async def post(body: bytes, headers: dict[str, str]) -> int:
                return (await http.post(url, content=body, headers=headers)).status_code

            return await self.deliver_to(post, shuffle=shuffle, doubled=doubled)


@asynccontextmanager
async def stripe_stand_in(
    *,
    now: datetime | int,
    prices: Sequence[Price] = (STANDARD, COMMIT),
    policy: Policy | None = None,
    webhook_url: str | None = None,
    webhook_secret: str = WEBHOOK_SECRET,
    port: int = 0,
) -> AsyncIterator[StripeStandIn]:
    """Run one. When it ends well, what did not agree with Stripe's description fails the test."""
    world = World(unix(now), policy or Policy())
    for price in prices:
        sell(world, price)
    faults = Faults()
    server = Server(Answering(world, faults, description()))
    async with server.running(port) as url:
        stripe = StripeStandIn(world, faults, server, url, webhook_url, webhook_secret)
        yield stripe
        assert not stripe.mismatches, "not as Stripe's description says: " + "; ".join(stripe.mismatches)


def unix(instant: datetime | int) -> int:
    """Whole Unix seconds."""
    return instant if isinstance(instant, int) else int(instant.timestamp())


def _mismatch(known: Description, event: JsonObject) -> str | None:
    thing = event["data"]["object"]
    return known.mismatch_of_object(thing["object"], thing)
