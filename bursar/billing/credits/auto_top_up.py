"""The automatic top-up of a renewal that is short of money: a payment at Stripe with the card on file (CR-38)."""

from collections.abc import Generator, Iterable
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, PositiveInt

from bursar.billing.account import Account, Profile, user_id_of
from bursar.billing.catalogue import TopUpTerms
from bursar.billing.credits.ledger import MICRODOLLARS_PER_CENT
from bursar.billing.credits.payments import TOP_UP
from bursar.billing.errors import CallRefused, Refused
from bursar.billing.kiloclaw.rows import Subscription
from bursar.billing.operations import Plan
from bursar.billing.steps import Step, StepKind
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.sales import PaymentIntent

NAME = "credit-auto-top-up"
SUCCEEDED = "succeeded"
PROCESSING = "processing"  # a bank that takes days: the money, or its failure, comes as an event
UNPAID = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})
CENTS_PER_DOLLAR = 100
DECLINED, REQUIRES_ACTION = "payment_failed", "payment_requires_action"
CHALLENGE = "authentication_required"
# Stripe's codes for the customer's own reasons. Any other is ours or the platform's, of which no customer is to hear as
# a decline: one mistake of a release would switch everybody off.
DECLINES = frozenset(
    {
        CHALLENGE,
        "bank_account_declined",
        "card_decline_rate_limit_exceeded",
        "card_declined",
        "card_error",  # Stripe's type, of one without a code
        "debit_not_authorized",
        "expired_card",
        "expired_payment_method",
        "incorrect_address",
        "incorrect_cvc",
        "incorrect_number",
        "incorrect_postal_code",
        "incorrect_zip",
        "india_recurring_payment_mandate_canceled",
        "insufficient_funds",
        "invalid_cvc",
        "invalid_expiry_month",
        "invalid_expiry_year",
        "invalid_number",
        "payment_intent_authentication_failure",
        "payment_intent_mandate_invalid",
        "payment_intent_payment_attempt_failed",
        "payment_method_customer_decline",
        "payment_method_provider_decline",
        "processing_error",
    }
)


class AutoTopUp(BaseModel):
    """A top-up as it was decided. `key` marks its payment: one for each user and boundary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    user_id: str
    customer_id: str
    amount_cents: PositiveInt
    boundary: AwareDatetime


def top_up_step(account: Account, row: Subscription, shortfall_microdollars: int, terms: TopUpTerms) -> Step | None:
    """The step that tops up for the row's boundary; None where it is switched off, tried already or impossible."""
    profile, user_id, boundary = account.part(Profile), user_id_of(account.key), row.credit_renewal_at
    customer_id = profile.stripe_customer_id or row.stripe_customer_id
    is_possible = profile.auto_top_up and customer_id and user_id and boundary
    if not is_possible or row.top_up_boundary == boundary:
        return None
    key = f"{user_id}:{boundary.isoformat() if boundary else ''}"
    asked = AutoTopUp(
        key=key,
        user_id=user_id or "",
        customer_id=customer_id or "",
        amount_cents=amount_cents(shortfall_microdollars, terms),
        boundary=boundary,
    )
    payload = {"operation": NAME, "asked": asked.model_dump(mode="json")}
    # Coalesced: one that was dropped untried may be asked for again.
    return Step(StepKind.TOP_UP, f"top-up:{key}", payload, coalesced=True)


def is_for(step: Step, asked: AutoTopUp) -> bool:
    """Whether the step tops up for that boundary, by that amount, with that customer's card."""
    return step.kind is StepKind.TOP_UP and AutoTopUp.model_validate(step.payload["asked"]) == asked


def amount_cents(shortfall_microdollars: int, terms: TopUpTerms) -> int:
    """The smallest amount that is sold and covers the shortfall; beyond all of them, the shortfall in whole dollars."""
    shortfall_cents = -(-shortfall_microdollars // MICRODOLLARS_PER_CENT)
    enough = [cents for cents in terms.amounts_cents if cents >= shortfall_cents]
    return min(enough, default=-(-shortfall_cents // CENTS_PER_DOLLAR) * CENTS_PER_DOLLAR)


def plan(asked: AutoTopUp) -> Plan:
    """Look for the payment of an earlier round; else charge the customer's card, without the customer.

    Raises `Refused` for the customer's own reasons, `CallRefused` for what is an operator's (CR-39).
    """
    known = yield from _payments(asked, "payments")
    tried = known or [(yield from _charged(asked, (yield from _payment_method(asked.customer_id))))]
    paid = next((one for one in tried if one.status in (SUCCEEDED, PROCESSING)), None)
    if paid is None:
        yield from _withdrawn(tried)
        raise Refused(DECLINED, "The payment was not made.", status=402)
    return {"payment_id": paid.id, "amount_cents": paid.amount, "status": paid.status}


def _charged(asked: AutoTopUp, method: str) -> Generator[Call, Any, PaymentIntent]:
    metadata = {"type": TOP_UP, "userId": asked.user_id, "topUp": asked.key}
    params = {
        "amount": asked.amount_cents,
        "currency": "usd",
        "customer": asked.customer_id,
        "payment_method": method,
        "confirm": True,
        "off_session": True,
        "description": "Automatic credit top-up",
        "metadata": metadata,
    }
    try:
        made: PaymentIntent = yield Call("pay", Method.CREATE_PAYMENT_INTENT, params=params, settles=True)
    except CallRefused as refusal:
        left = yield from _payments(asked, "payments-after-refusal")
        yield from _withdrawn(left)
        if refusal.code not in DECLINES:
            raise
        raise _declined(refusal) from None
    return made


def _payments(asked: AutoTopUp, name: str) -> Generator[Call, Any, list[PaymentIntent]]:
    listed = yield Call(name, Method.LIST_PAYMENT_INTENTS, params={"customer": asked.customer_id})
    return [one for one in listed.data if one.metadata.get("topUp") == asked.key]


def _payment_method(customer_id: str) -> Generator[Call, Any, str]:
    """The customer's default, else the newest card on file; `Refused` where there is none."""
    customer = yield Call("customer", Method.RETRIEVE_CUSTOMER, target=customer_id)
    default: str | None = customer.default_payment_method
    if default:
        return default
    cards = yield Call("cards", Method.LIST_PAYMENT_METHODS, params={"customer": customer_id, "type": "card"})
    newest: str | None = next((one.id for one in cards.data), None)
    if newest is None:
        raise Refused("no_payment_method", "The customer has no card on file.", status=402)
    return newest


def _withdrawn(payments: Iterable[PaymentIntent]) -> Generator[Call, Any, None]:
    """What was not paid shall not be paid later by any other way."""
    for one in payments:
        if one.status in UNPAID:
            try:
                yield Call(f"cancel:{one.id}", Method.CANCEL_PAYMENT_INTENT, target=one.id)
            except CallRefused:
                continue  # it ended meanwhile


def _declined(refusal: CallRefused) -> Refused:
    if refusal.code == CHALLENGE:
        return Refused(REQUIRES_ACTION, "The bank asks for a confirmation, which nobody can give here.", status=402)
    return Refused(DECLINED, f"The payment was declined ({refusal.code}).", status=402)
