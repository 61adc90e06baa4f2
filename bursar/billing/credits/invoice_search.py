"""The step that finds the invoice which a refunded or disputed payment had paid (CR-11).

Neither a charge nor a dispute names the invoice that it paid, and a paid invoice does not name its charge: Stripe is
asked which belong together.
"""

import msgspec

from bursar.billing.credits.ledger import Reversal
from bursar.billing.steps import Step, StepKind
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.values import Value


class InvoiceSearch(Value, forbid_unknown_fields=True):
    """The payload of the step. Without a payment intent nothing is left to ask: a ledger has the payment."""

    reversal: Reversal
    payment_intent: str | None

    @property
    def call(self) -> Call | None:
        """Which invoices the payment paid."""
        if self.payment_intent is None:
            return None
        payment = {"type": "payment_intent", "payment_intent": self.payment_intent}
        return Call("invoice payments", Method.LIST_INVOICE_PAYMENTS, params={"payment": payment})


def finding_invoice(reversal: Reversal, payment_intent: str) -> Step:
    """Ask Stripe, once for each reversal."""
    search = InvoiceSearch(reversal=reversal, payment_intent=payment_intent)
    return _step(f"find-invoice:{reversal.business_key}", search)


def handing_over(reversal: Reversal) -> Step:
    """Have it decided for the account whose ledger knows the payment; which one that is, the step looks up."""
    search = InvoiceSearch(reversal=reversal, payment_intent=None)
    return _step(f"find-invoice:{reversal.business_key}:known", search)


def _step(key: str, search: InvoiceSearch) -> Step:
    return Step(StepKind.FIND_INVOICE, key, msgspec.to_builtins(search))
