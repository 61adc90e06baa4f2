"""A top-up that is heard of after its user was deleted: nobody has the money, so it goes back (KC-121)."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from bursar.billing.account import Account, user_id_of
from bursar.billing.decision import Decision
from bursar.billing.steps import Step, StepKind
from bursar.billing.stripe.calls import Call, Method

PAYMENT_PREFIX, INVOICE_PREFIX = "pi_", "in_"  # Stripe's, of payments and of invoices that show none; else a charge


class LateTopUp(BaseModel):
    """The payload of the step that gives it back: the payment, which names nobody without Stripe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    payment_id: str

    @property
    def search(self) -> Call | None:
        """Which payments paid the invoice, where its event showed none of them."""
        if not self.payment_id.startswith(INVOICE_PREFIX):
            return None
        params = {"invoice": self.payment_id, "status": "paid"}
        return Call("list-payments", Method.LIST_INVOICE_PAYMENTS, params=params)

    @property
    def refund(self) -> Mapping[str, str]:
        """What to ask of Stripe to give all that is left of the payment back."""
        return {"payment_intent" if self.payment_id.startswith(PAYMENT_PREFIX) else "charge": self.payment_id}


def give_back(account: Account, payment_id: str) -> Decision:
    """Have a deleted user's top-up refunded, once per payment, whatever event tells of it. It changes no row."""
    late = Decision.nothing(account, "deleted_user")
    if user_id_of(account.key) is None:
        return late
    payload = LateTopUp(payment_id=payment_id).model_dump()
    step = Step(StepKind.RETURN_TOP_UP, f"return-top-up:{payment_id}", payload)
    return late.then(Decision(account, (step,), counts={"late_top_up": 1}))
