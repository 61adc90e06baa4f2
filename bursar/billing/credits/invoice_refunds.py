"""Refunds of settled invoices (CR-11). Parts: Credits.

A charge does not name the invoice that it paid, and a paid invoice does not name its charge: Stripe is asked which
belong together.
"""

from pydantic import BaseModel, ConfigDict

from bursar.billing.account import Account, user_id_of
from bursar.billing.credits.deposits import charge_refunded
from bursar.billing.credits.ledger import EntryKind, credits_of
from bursar.billing.credits.payments import ChargeEvent
from bursar.billing.credits.settlement import INVOICE_PREFIX
from bursar.billing.decision import Decision
from bursar.billing.steps import Step, StepKind
from bursar.billing.stripe.calls import Call, Method


class RefundedCharge(BaseModel):
    """The payload of the step that asks: what the event said of the charge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: ChargeEvent

    @property
    def call(self) -> Call:
        """Which invoices the charge's payment paid."""
        payment = {"type": "payment_intent", "payment_intent": self.event.charge.payment_intent}
        return Call("invoice payments", Method.LIST_INVOICE_PAYMENTS, params={"payment": payment})


def refunded(account: Account, event: ChargeEvent) -> Decision:
    """`charge.refunded`: withdraw it, or ask whether it paid an invoice that was settled under its own id."""
    decided = charge_refunded(account, event)
    if decided.counts != {"foreign": 1} or not _may_be_settled(account, event):
        return decided
    payload = RefundedCharge(event=event).model_dump(mode="json")
    step = Step(StepKind.FIND_INVOICE, f"find-invoice:{event.id}", payload)
    return Decision(account, (step,), counts={"invoice_asked": 1})


def refunded_of_invoice(account: Account, event: ChargeEvent, invoice_ids: tuple[str, ...]) -> Decision:
    """Stripe said what the charge paid: a settled invoice's refund is a neutral pair; others are not ours."""
    settled = next((one for one in invoice_ids if one in _settled_invoices(account)), None)
    if settled is None:
        return Decision.nothing(account, "foreign")
    charge = event.charge.model_copy(update={"invoice": settled})
    return charge_refunded(account, event.model_copy(update={"charge": charge}))


def _may_be_settled(account: Account, event: ChargeEvent) -> bool:
    asked = user_id_of(account.key) is not None and event.charge.payment_intent is not None
    return asked and bool(_settled_invoices(account))


def _settled_invoices(account: Account) -> frozenset[str]:
    deposits = (one for one in credits_of(account).entries if one.kind is EntryKind.SETTLEMENT_DEPOSIT)
    return frozenset(one.payment_id for one in deposits if (one.payment_id or "").startswith(INVOICE_PREFIX))  # type: ignore[misc]  # a deposit names its payment
