"""Writes a life event by event, in the order in which Stripe tells it."""

from copy import deepcopy
from datetime import datetime, timedelta

from bursar.billing.calendar import add_months, from_unix
from bursar.service.demo import stripe_shapes as shapes
from bursar.service.demo.lives import JsonObject, Life

HOURS_BETWEEN_RETRIES = 84


class Story:
    """One customer at Stripe. Each verb below is something that happens; it moves `now` where it takes time."""

    def __init__(self, user_id: str | None, begins_at: datetime, seed: str) -> None:
        self.user_id = user_id
        self.now = int(begins_at.timestamp())
        self.events: list[JsonObject] = []
        self.subscriptions: list[JsonObject] = []
        self._ids = shapes.StripeIds(seed)
        self._prices: dict[str, JsonObject] = {}
        self._last_told: dict[str, JsonObject] = {}
        self._open_invoice: JsonObject = {}
        self._schedule: JsonObject = {}
        self._method_id = ""
        self._customer: JsonObject = {}
        self._invoices = 0

    def open_catalogue(self) -> None:
        """Products and prices, this life's own."""
        for name, plans in (("KiloClaw", ("standard", "commit")), ("Add-on", ("addon",))):
            product = shapes.product(self._ids, name, self.now)
            self._tell("product.created", product)
            self._prices |= {plan: shapes.price(self._ids, plan, product["id"], self.now) for plan in plans}
        for price in self._prices.values():
            self._tell("price.created", price)

    def share_catalogue(self, other: "Story") -> None:
        """Use another story's prices, told there."""
        self._prices = other._prices  # noqa: SLF001 - the same class

    def become_customer(self) -> None:
        self._customer = shapes.customer(self._ids, self.user_id, self.now)
        self._tell("customer.created", self._customer)

    def add_card(self, last4: str = "4242") -> None:
        method = shapes.payment_method(self._ids, self._customer["id"], self.now, last4)
        self._method_id = method["id"]
        self._tell("payment_method.attached", method)
        self._customer["invoice_settings"]["default_payment_method"] = method["id"]
        self._tell("customer.updated", self._customer)

    def wait(self, *, days: int = 0, hours: int = 0) -> None:
        self.now += int(timedelta(days=days, hours=hours).total_seconds())

    def subscribe(self, plan: str, *, free_days: int = 0) -> None:
        """Buy a plan; with free days Stripe says `trialing` until billing starts."""
        free_until = self.now + free_days * 86_400
        ends_at = free_until if free_days else self._months_later(self.now, plan)
        bought = shapes.subscription(
            self._ids, self._customer["id"], self._metadata(plan), self._prices[plan], (self.now, ends_at)
        )
        if free_days:
            bought |= {"status": "trialing", "trial_start": self.now, "trial_end": ends_at}
            bought["billing_cycle_anchor"] = ends_at
        self.subscriptions.append(bought)
        self._draft("subscription_create", asked=True)
        self._pay(asked=True)
        self._tell("customer.subscription.created", bought)

    def warn_of_trial_end(self) -> None:
        """Three days before the free days end."""
        self.now = self.current["trial_end"] - 3 * 86_400
        self._tell("customer.subscription.trial_will_end", self.current, asked=False)

    def renew(self) -> None:
        """Walk to the boundary, where the next period is paid."""
        self._begin_period()
        self._pay(asked=False)
        self.current["status"] = "active"
        self._tell("customer.subscription.updated", self.current, asked=False)

    def fail_to_renew(self) -> None:
        """Walk to the boundary, where the card is declined."""
        self._begin_period()
        self._fail(charged=True)
        self.current["status"] = "past_due"
        self._tell("customer.subscription.updated", self.current, asked=False)

    def fail_retry(self) -> None:
        self.wait(hours=HOURS_BETWEEN_RETRIES)
        self._fail(charged=False)

    def pay_retry(self) -> None:
        self.wait(hours=HOURS_BETWEEN_RETRIES)
        self._pay(asked=False)
        self.current["status"] = "active"
        self._tell("customer.subscription.updated", self.current, asked=False)

    def become_unpaid(self) -> None:
        self.current["status"] = "unpaid"
        self._tell("customer.subscription.updated", self.current, asked=False)

    def ask_to_cancel(self) -> None:
        """Cancel at the period's end."""
        at = self.current["items"]["data"][0]["current_period_end"]
        self.current.update(cancel_at=at, cancel_at_period_end=True, canceled_at=self.now)
        self.current["cancellation_details"]["reason"] = "cancellation_requested"
        self._tell("customer.subscription.updated", self.current)

    def take_back(self) -> None:
        self.current.update(cancel_at=None, cancel_at_period_end=False, canceled_at=None)
        self.current["cancellation_details"]["reason"] = None
        self._tell("customer.subscription.updated", self.current)

    def end_at_period_end(self) -> None:
        self.now = self.current["cancel_at"]
        self._end(self.current["canceled_at"], "cancellation_requested", asked=False)

    def end_now(self, reason: str = "cancellation_requested") -> None:
        self._end(self.now, reason, asked=reason == "cancellation_requested")

    def plan_phases(self, *next_plans: str) -> None:
        """A schedule: the current phase, then one period of each of these plans, then released."""
        item = self.current["items"]["data"][0]
        first = shapes.phase(item["price"], item["current_period_start"], item["current_period_end"])
        self._schedule = shapes.schedule(self._ids, self.current, first, self.now)
        self._tell("subscription_schedule.created", self._schedule)
        for plan in next_plans:
            starts_at = self._schedule["phases"][-1]["end_date"]
            ends_at = self._months_later(starts_at, plan)
            self._schedule["phases"].append(shapes.phase(self._prices[plan], starts_at, ends_at))
        self.current["schedule"] = self._schedule["id"]
        self._tell("subscription_schedule.updated", self._schedule)

    def enter_next_phase(self, index: int) -> None:
        """Walk to the boundary: the price changes first, in the same second the new period is paid (KC-32)."""
        item = self.current["items"]["data"][0]
        self.now = item["current_period_end"]
        item["price"] = self._schedule["phases"][index]["items"][0]["price"]
        self._tell("customer.subscription.updated", self.current, asked=False)
        shapes.enter_phase(self._schedule, index)
        self._tell("subscription_schedule.updated", self._schedule, asked=False)
        self.renew()

    def release_schedule(self, *, asked: bool = True) -> None:
        self._schedule |= {"status": "released", "released_at": self.now, "current_phase": None}
        self._schedule |= {"released_subscription": self.current["id"], "subscription": None}
        self.current["schedule"] = None
        self._tell("subscription_schedule.released", self._schedule, asked=asked)

    def run_out_of_phases(self) -> None:
        """Walk to the end of the last phase: the schedule lets go, the subscription goes on."""
        self.now = self.current["items"]["data"][0]["current_period_end"]
        self.current["schedule"] = None
        self._tell("customer.subscription.updated", self.current, asked=False)
        self.release_schedule(asked=False)
        self.renew()

    def top_up_and_refund(self, cents: int, refunded_cents: int) -> None:
        """Credits are bought, a part of the payment is refunded."""
        intent = shapes.skeleton("payment_intent", id=self._ids.new("pi"), amount=cents, created=self.now)
        intent |= {"customer": self._customer["id"], "payment_method": self._method_id}
        intent |= {"client_secret": f"{intent['id']}_{self._ids.new('secret')}"}
        intent["metadata"] = {"type": "credit_topup", "userId": self.user_id}
        self._tell("payment_intent.created", intent)
        charge = shapes.charge(self._ids, self._customer["id"], self._method_id, cents, self.now)
        charge |= {"payment_intent": intent["id"], "metadata": intent["metadata"]}
        self._tell("charge.succeeded", charge)
        intent |= {"status": "succeeded", "amount_received": cents, "latest_charge": charge["id"]}
        self._tell("payment_intent.succeeded", intent)
        refund = shapes.skeleton("refund", id=self._ids.new("re"), amount=refunded_cents, created=self.now)
        refund |= {key: charge[key] for key in ("customer", "payment_intent", "payment_method")}
        self._tell("refund.created", refund | {"charge": charge["id"], "balance_transaction": self._ids.new("txn")})
        charge["amount_refunded"] = refunded_cents
        self._tell("charge.refunded", charge)

    def touch(self) -> None:
        """A change that our rules do not read, as most updates are."""
        self.current["latest_invoice"] = self._ids.new("in")
        self._tell("customer.subscription.updated", self.current)

    @property
    def current(self) -> JsonObject:
        """The newest subscription."""
        return self.subscriptions[-1]

    def life(self, name: str, note: str) -> Life:
        """What has been told so far."""
        prices = {plan: price["id"] for plan, price in self._prices.items()}
        return Life(name, note, tuple(self.events), tuple(_final(one) for one in self.subscriptions), prices)

    def _metadata(self, plan: str) -> dict[str, str]:
        if self.user_id is None:
            return {}
        return {"type": "kiloclaw", "userId": self.user_id, "plan": plan}

    def _months_later(self, at: int, plan: str) -> int:
        return int(add_months(from_unix(at), shapes.MONTHS[plan]).timestamp())

    def _begin_period(self) -> None:
        item = self.current["items"]["data"][0]
        self.now = starts_at = item["current_period_end"]
        months = item["price"]["recurring"]["interval_count"]
        item["current_period_start"] = starts_at
        item["current_period_end"] = int(add_months(from_unix(starts_at), months).timestamp())
        if self.current["status"] == "trialing":
            self.current["status"] = "active"
        self._draft("subscription_cycle", asked=False)

    def _draft(self, reason: str, *, asked: bool) -> None:
        drafted = shapes.invoice(self._ids, self._customer, self.current, self.now, reason)
        self._open_invoice = drafted
        self.current["latest_invoice"] = drafted["id"]
        self._tell("invoice.created", drafted, asked=asked)
        self._invoices += 1
        shapes.finalize(drafted, f"{self._customer['invoice_prefix']}-{self._invoices:04d}", self.now)
        self._tell("invoice.finalized", drafted, asked=asked)

    def _pay(self, *, asked: bool) -> None:
        paid = self._open_invoice
        cents = paid["total"]
        if cents:
            charge = shapes.charge(self._ids, paid["customer"], self._method_id, cents, self.now)
            self._tell("charge.succeeded", charge, asked=asked)
            paid["attempt_count"] += 1
        paid |= {
            "status": "paid",
            "amount_paid": cents,
            "amount_remaining": 0,
            "attempted": True,
            "auto_advance": False,
        }
        paid["status_transitions"]["paid_at"] = self.now
        if cents:
            self._tell("invoice.payment_succeeded", paid, asked=asked)
        self._tell("invoice.paid", paid, asked=asked)

    def _fail(self, *, charged: bool) -> None:
        failed = self._open_invoice
        if charged:
            charge = shapes.charge(self._ids, failed["customer"], self._method_id, failed["total"], self.now)
            shapes.decline(charge)
            self._tell("charge.failed", charge, asked=False)
        failed |= {"attempt_count": failed["attempt_count"] + 1, "attempted": True, "auto_advance": True}
        failed["next_payment_attempt"] = self.now + HOURS_BETWEEN_RETRIES * 3_600
        self._tell("invoice.payment_failed", failed, asked=False)

    def _end(self, canceled_at: int, reason: str, *, asked: bool) -> None:
        self.current.update(status="canceled", ended_at=self.now, canceled_at=canceled_at)
        self.current["cancellation_details"]["reason"] = reason
        self._tell("customer.subscription.deleted", self.current, asked=asked)

    def _tell(self, event_type: str, subject: JsonObject, *, asked: bool = True) -> None:
        told = deepcopy(subject)
        data = {"object": told}
        before = self._last_told.get(subject["id"])
        if before is not None and event_type in ("customer.updated", "customer.subscription.updated"):
            data["previous_attributes"] = {key: before[key] for key in told if told[key] != before[key]}
        self._last_told[subject["id"]] = told
        self.events.append(shapes.event(self._ids, event_type, self.now, data, asked=asked))


def _final(subscription: JsonObject) -> JsonObject:
    """How Stripe shows a subscription at the end, in the fields of `index.json`."""
    kept = ("id", "status", "metadata", "schedule", "cancel_at_period_end", "ended_at")
    items = [
        {
            "price": item["price"]["id"],
            "quantity": item["quantity"],
            "current_period_start": item["current_period_start"],
            "current_period_end": item["current_period_end"],
        }
        for item in subscription["items"]["data"]
    ]
    return {key: deepcopy(subscription[key]) for key in kept} | {"items": items}
