"""Answers about credits: balance, ledger, automatic top-up, and hosting paid from them."""

from pydantic import AwareDatetime, Field

from bursar.billing.catalogue import PaidPlan
from bursar.billing.credits.ledger import EntryKind
from bursar.billing.kiloclaw.rows import Status
from bursar.service.web.answers import Answer, example


class CreditsAnswer(Answer):
    """What a user acquired, used and has left. A microdollar is a millionth of a US dollar."""

    model_config = example(
        acquired_microdollars=50_000_000, used_microdollars=9_000_000, balance_microdollars=41_000_000, auto_top_up=True
    )

    acquired_microdollars: int
    used_microdollars: int
    balance_microdollars: int = Field(description="Below zero only after a refund or a dispute.")
    auto_top_up: bool


class AutoTopUpAnswer(Answer):
    """How the automatic top-up is set now."""

    model_config = example(auto_top_up=True)

    auto_top_up: bool


class LedgerEntryAnswer(Answer):
    """One line of the ledger; it is never changed."""

    id: int
    amount_microdollars: int = Field(description="Signed: what it adds to the balance.")
    kind: EntryKind
    description: str
    business_key: str = Field(description="What it is for: unique for ever.")
    payment_id: str | None = Field(description="Stripe's id of the payment; null for a charge.")
    cause: str = Field(description="The message or command that caused it.")
    created_at: AwareDatetime = Field(description="Business time.")


class TransactionsAnswer(Answer):
    """A page of the ledger, newest first."""

    model_config = example(
        entries=[
            {
                "id": 7,
                "amount_microdollars": 50_000_000,
                "kind": "deposit",
                "description": "Credit top-up",
                "business_key": "deposit:pi_3QxK",
                "payment_id": "pi_3QxK",
                "cause": "evt_1QxK",
                "created_at": "2026-06-01T08:00:00Z",
            }
        ],
        next_cursor=None,
    )

    entries: list[LedgerEntryAnswer]
    next_cursor: int | None = Field(description="The `cursor` of the next page; null after the last.")


class CreditCheckoutAnswer(Answer):
    """Stripe's page on which the user pays."""

    model_config = example(
        url="https://checkout.stripe.com/c/pay/cs_live_a1", session_id="cs_live_a1", amount_cents=5_000
    )

    url: str = Field(description="Send the user there.")
    session_id: str
    amount_cents: int


class EnrolmentAnswer(Answer):
    """The subscription that credits pay, and what is left of them."""

    model_config = example(
        balance_microdollars=41_000_000,
        plan="standard",
        status="active",
        current_period_end="2026-07-01T08:00:00+00:00",
        commit_ends_at=None,
    )

    balance_microdollars: int
    plan: PaidPlan
    status: Status
    current_period_end: AwareDatetime | None
    commit_ends_at: AwareDatetime | None = Field(description="Null without a commitment.")
