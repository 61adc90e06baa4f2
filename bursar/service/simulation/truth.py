"""What really happened, as nobody in the service knows it: Stripe, instances and mails, and what rows were before."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bursar.billing.calendar import from_unix
from bursar.service.demo.lives import JsonObject
from bursar.service.simulation.facts import Facts, Row, instant
from bursar.service.simulation.payments import TOP_UP, Payment, automatic_top_ups, payments_of_ours
from bursar.service.simulation.simulation import Simulation

MICRODOLLARS_PER_CENT = 10_000
COMMIT_MONTHS, COMMIT_MICRODOLLARS, STANDARD_MICRODOLLARS = 6, 54_000_000, 25_000_000
PLANS = {"price_standard": "standard", "price_commit": "commit"}
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
    payments: list[Payment] = field(default_factory=list)
    automatic_top_ups: list[JsonObject] = field(default_factory=list)
    trials: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # by user, when they began
    overdue_since: dict[str, datetime] = field(default_factory=dict)  # by user who pays from credits
    looks: int = 0
    # By user, at which look an automatic top-up was declined last, and switched on last.
    declined: dict[str, int] = field(default_factory=dict)
    switched_on: dict[str, int] = field(default_factory=dict)
    _entries: dict[str, list[Row]] = field(default_factory=dict)  # by payment
    _failed: set[str] = field(default_factory=set)

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
        self.looks += 1
        world = self.simulation.outside.stripe.world
        self.payments, self.automatic_top_ups = payments_of_ours(world), automatic_top_ups(world)
        self._entries = defaultdict(list)
        for entry in facts["entries"]:
            self._entries[entry["payment_id"]].append(entry)
        for row in facts["subscriptions"]:
            self._observe_row(row)
        self._observe_top_ups()

    def _observe_row(self, row: Row) -> None:
        user_id = row["user_id"]
        if row["plan"] == "trial":
            self.trials[user_id].add(row["trial_started_at"])
        if is_pure_credit(row) and row["status"] == "past_due":
            self.overdue_since.setdefault(user_id, self.now)
        else:
            self.overdue_since.pop(user_id, None)

    def _observe_top_ups(self) -> None:
        """Declines are seen at Stripe, whatever was heard of them; switching on is seen at the user."""
        for one in self.automatic_top_ups:
            if one["last_payment_error"] and one["id"] not in self._failed:
                self._failed.add(one["id"])
                self.declined[one["metadata"]["userId"]] = self.looks
        were_on = {one["user_id"] for one in self.before.get("users", ()) if one["auto_top_up"]}
        for user in self.facts["users"]:
            if user["auto_top_up"] and user["user_id"] not in were_on:
                self.switched_on[user["user_id"]] = self.looks

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

    def entries_of_payment(self, names: Iterable[str]) -> list[Row]:
        """Those that belong to a payment, by whichever of its ids."""
        return [one for name in sorted(names) for one in self._entries.get(name, ())]

    def new_entries(self, user_id: str) -> list[Row]:
        """Those since the last look."""
        known = {one["id"] for one in self.before.get("entries", ())}
        return [one for one in self.entries_of(user_id) if one["id"] not in known]

    def balance(self, user_id: str) -> int:
        """In microdollars."""
        return sum(one["amount_microdollars"] for one in self.entries_of(user_id))

    def pure_credit_rows(self) -> list[Row]:
        """Rows that are paid from credits alone."""
        return [one for one in self.facts["subscriptions"] if is_pure_credit(one)]

    def next_price(self, row: Row) -> int:
        """What the next period of a pure-credit row costs, in microdollars: nothing where it is paid ahead."""
        renewal_at, committed_until = instant(row["credit_renewal_at"]), instant(row["commit_ends_at"])
        if row["plan"] == "commit" and renewal_at and committed_until and committed_until > renewal_at:
            return 0
        return price_of(row["scheduled_plan"] or "standard")

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
        """When the row's subscription last left what is paid, to be past due or unpaid ever since as far as the service
        has heard: a payment whose event is on its way does not undo the grace.
        """
        if row["stripe_subscription_id"] is None:
            return self.overdue_since.get(row["user_id"])
        since: datetime | None = None
        heard_at = instant(row["last_stripe_event_at"])
        for event in self.simulation.outside.stripe.world.events:
            thing: Any = event["data"]["object"]
            if thing.get("id") == row["stripe_subscription_id"] and event["type"].startswith("customer.subscription."):
                if thing["status"] in ("past_due", "unpaid", "incomplete"):
                    since = since or from_unix(event["created"])
                elif heard_at and from_unix(event["created"]) <= heard_at:
                    since = None
        return since

    def subscription_of_invoice(self, invoice: JsonObject) -> str | None:
        """The subscription that an invoice bills."""
        details = ((invoice.get("parent") or {}).get("subscription_details")) or {}
        found: str | None = details.get("subscription")
        return found

    def renewal_invoices(self, user_id: str) -> list[JsonObject]:
        """Paid invoices that bill no subscription and are no top-ups: renewed commitments."""
        of_user = {one["id"] for one in self.at_stripe("customer") if one["metadata"].get("userId") == user_id}
        return [
            one
            for one in self.at_stripe("invoice")
            if one["customer"] in of_user
            and one["amount_paid"] > 0
            and self.subscription_of_invoice(one) is None
            and one["metadata"].get("type") != TOP_UP
        ]

    def renewals_asked(self, user_id: str) -> int:
        """How many renewals the user has asked for."""
        return sum(one.user_id == user_id and one.verb == "renew_commit" for one in self.simulation.commands)


def is_pure_credit(row: Row) -> bool:
    """Whether the row is paid from credits alone."""
    return row.get("payment_source") == "credits" and row.get("stripe_subscription_id") is None


def price_of(plan: str) -> int:
    """Of a period of the plan, in microdollars."""
    return COMMIT_MICRODOLLARS if plan == "commit" else STANDARD_MICRODOLLARS
