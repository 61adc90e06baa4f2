"""The checkout of a top-up: a page at Stripe on which a user buys credits (CR-10)."""

from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.payments import TOP_UP
from bursar.billing.customers import CustomerWanted, customer, customer_learnt, with_customer
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.operations import Ended, Operation, OperationFacts, Plan, begin
from bursar.billing.stripe.calls import Call, Method

NAME = "credit-checkout"


class TopUp(BaseModel):
    """A top-up as it was decided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: CustomerWanted
    amount_cents: PositiveInt
    return_url: str


def check_out_credits(
    account: Account, amount_cents: int | None, return_url: str, catalogue: Catalogue, command_id: str
) -> Decision:
    """Ask for a session of that amount, or of the default one. Parts: Profile, Operations.

    Raises `Refused("amount_not_offered")` for an amount that the catalogue does not sell.
    """
    terms = catalogue.top_up
    wanted_cents = terms.default_cents if amount_cents is None else amount_cents
    if wanted_cents not in terms.amounts_cents:
        offered = ", ".join(f"{cents}" for cents in terms.amounts_cents)
        raise Refused("amount_not_offered", f"Credits are sold for these cents: {offered}.")
    wanted_customer = CustomerWanted.of(account.part(Profile))
    asked = TopUp(customer=wanted_customer, amount_cents=wanted_cents, return_url=return_url)
    return begin(account, NAME, asked, command_id)


def plan(asked: TopUp) -> Plan:
    """The customer, then the session. Several may be open: each is a payment of its own."""
    customer_id = yield from customer(asked.customer)
    undo = Call("expire-session", Method.EXPIRE_CHECKOUT_SESSION)
    params = session_params(asked, customer_id)
    session = yield Call("create-session", Method.CREATE_CHECKOUT_SESSION, params=params, undo=undo, fades=True)
    return {"url": session.url, "session_id": session.id, "amount_cents": asked.amount_cents}


def apply(account: Account, asked: TopUp, ended: Ended, _: OperationFacts) -> Decision:
    """Keep the customer, however it ended; the deposit follows the payment."""
    kept = with_customer(account, customer_learnt(asked.customer, ended.answers))
    return Decision(kept, reason="top-up checkout", counts={"top_up_failed" if ended.failure else "top_up_opened": 1})


def session_params(asked: TopUp, customer_id: str) -> dict[str, Any]:
    """What Stripe is asked for. The payment bears the metadata by which it is deposited."""
    metadata = {"type": TOP_UP, "userId": asked.customer.user_id}
    price = {"currency": "usd", "unit_amount": asked.amount_cents, "product_data": {"name": "Credits"}}
    return {
        "mode": "payment",
        "customer": customer_id,
        "line_items": [{"price_data": price, "quantity": 1}],
        "success_url": asked.return_url,
        "cancel_url": asked.return_url,
        "metadata": metadata,
        # the card stays on file for automatic top-ups (CR-38)
        "payment_intent_data": {"metadata": metadata, "setup_future_usage": "off_session"},
    }


CREDIT_CHECKOUT = Operation(NAME, TopUp, plan, apply)
