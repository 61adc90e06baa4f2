"""What really happened, as nobody in the service knows it: Stripe, instances and mails, and what rows were before."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bursar.billing.calendar import from_unix
from bursar.service.demo.lives import JsonObject
from bursar.service.simulation.facts import Facts, Row, instant
from bursar.service.simulation.simulation import Simulation

UNENDED = ("active", "trialing", "past_due", "unpaid", "paused")
PAID = ("active", "trialing")
EARLYBIRD_UNTIL = datetime.fromisoformat("2026-09-26T00:00:00+00:00")


@dataclass(slots=True)
class Truth:
    """Grows with every look at the rows."""

    simulation: Simulation
    facts: Facts = field(default_factory=dict)
    before: Facts = field(default_factory=dict)
    history: Facts = field(default_factory=dict)
    trials: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # by user, when they began

    @property
    def now(self) -> datetime:
        """Business time."""
        return self.simulation.now

    @property
    def earlybirds(self) -> set[str]:
        """Whose purchase covers them now."""
        return {one["user_id"] for one in self.facts["earlybirds"]} if self.now < EARLYBIRD_UNTIL else set()

    @property
    def users_with_rows(self) -> set[str]:
        """Deleted users have none."""
        return {one["user_id"] for one in self.facts["subscriptions"]}

    def observe(self, facts: Facts) -> None:
        """The rows as they are now."""
        self.before, self.facts = self.facts, facts
        for row in facts["subscriptions"]:
            if row["plan"] == "trial":
                self.trials[row["user_id"]].add(row["trial_started_at"])

    def row_of(self, user_id: str) -> Row | None:
        """The user's subscription row."""
        return next((one for one in self.facts["subscriptions"] if one["user_id"] == user_id), None)

    def row_before(self, user_id: str) -> Row | None:
        """Likewise, at the last look."""
        return next((one for one in self.before.get("subscriptions", ()) if one["user_id"] == user_id), None)

    def suspended_before(self, user_id: str) -> datetime | None:
        """Since when the user was suspended at the last look."""
        row = self.row_before(user_id)
        return instant(row["suspended_at"]) if row else None

    def user_of(self, instance: Row) -> str:
        """Whose it is."""
        key: str = instance["account_key"]
        return key.removeprefix("user:")

    def state_of(self, instance: Row) -> str:
        """What it really is."""
        return self.simulation.outside.instances.states[instance["id"]]

    def entries_of(self, user_id: str) -> list[Row]:
        """The ledger of a user, in its order."""
        return [one for one in self.facts["entries"] if one["user_id"] == user_id]

    def at_stripe(self, kind: str) -> list[JsonObject]:
        """Everything of that kind."""
        return self.simulation.outside.stripe.all(kind)

    def one_at_stripe(self, kind: str, key: str) -> JsonObject:
        """That one."""
        return self.simulation.outside.stripe.world.get(kind, key)

    def subscriptions_of(self, user_id: str) -> list[JsonObject]:
        """At Stripe: those of the user that are of this product, oldest first."""
        return [
            one
            for one in self.at_stripe("subscription")
            if one["metadata"].get("userId") == user_id and one["metadata"].get("type") == "kiloclaw"
        ]

    def first_past_due(self, row: Row) -> datetime | None:
        """When the row's subscription last left what is paid, to be past due or unpaid ever since."""
        if row["stripe_subscription_id"] is None:
            return instant(row["past_due_since"])
        since: datetime | None = None
        for event in self.simulation.outside.stripe.world.events:
            thing: Any = event["data"]["object"]
            if thing.get("id") == row["stripe_subscription_id"] and event["type"].startswith("customer.subscription."):
                is_past_due = thing["status"] in ("past_due", "unpaid", "incomplete")
                since = (since or from_unix(event["created"])) if is_past_due else None
        return since

    def subscription_of_invoice(self, invoice: JsonObject) -> str | None:
        """The subscription that an invoice bills."""
        details = ((invoice.get("parent") or {}).get("subscription_details")) or {}
        found: str | None = details.get("subscription")
        return found

    def renewal_invoices(self, user_id: str) -> list[JsonObject]:
        """Paid invoices that bill no subscription: renewed commitments."""
        of_user = {one["id"] for one in self.at_stripe("customer") if one["metadata"].get("userId") == user_id}
        return [
            one
            for one in self.at_stripe("invoice")
            if one["customer"] in of_user and one["amount_paid"] > 0 and self.subscription_of_invoice(one) is None
        ]

    def renewals_asked(self, user_id: str) -> int:
        """How many renewals the user has asked for."""
        return sum(one.user_id == user_id and one.verb == "renew_commit" for one in self.simulation.commands)

    def was_deleted_by_payment(self, charge: JsonObject) -> bool:
        """Whether the user of a payment was deleted since: then its late events change nothing."""
        intent = self.one_at_stripe("payment_intent", charge["payment_intent"])
        return intent["metadata"].get("userId") in self.simulation.deleted
