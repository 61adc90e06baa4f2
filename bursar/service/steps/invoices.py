"""Asking Stripe which invoice a refunded or disputed payment had paid (CR-11)."""

import asyncio

import msgspec

from bursar.billing.credits.invoice_search import InvoiceSearch
from bursar.billing.errors import Retryable
from bursar.billing.steps import StepKind
from bursar.billing.stripe.calls import Call
from bursar.billing.stripe.lists import InvoicePayments
from bursar.db.early_reversals import owner_of
from bursar.db.items import Item
from bursar.handlers.steps import invoice_found
from bursar.service.deciding.decider import Decider
from bursar.service.steps.bounds import STEPS
from bursar.service.steps.jobs import BeginCall, StepJob
from bursar.service.steps.operations import StripeCalls


class InvoiceFinder:
    """Lists the invoices that a payment paid, and looks whose ledger knows it. Reads, which may be made twice."""

    kind = StepKind.FIND_INVOICE

    def __init__(self, stripe: StripeCalls, decider: Decider) -> None:
        self._stripe = stripe
        self._decider = decider

    async def attempt(self, job: StepJob, _: BeginCall) -> Item:
        """The outcome, for the account whose ledger knows the payment. Raises `Retryable` or `Permanent`."""
        search = msgspec.convert(job.step.payload, InvoiceSearch)
        invoice_ids = await self._invoices(search.call, job.step.key) if search.call else ()
        names = (*search.reversal.payment_ids, *invoice_ids)
        owner = await self._decider.with_connection(lambda connection: owner_of(connection, names))
        return invoice_found(job.step, search.reversal, invoice_ids, owner)

    async def _invoices(self, call: Call, idempotency_key: str) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(STEPS[self.kind].timeout_seconds):
                raw = await self._stripe.call(call, idempotency_key)
        except TimeoutError:
            raise Retryable("Stripe did not answer in time") from None
        return tuple(one.invoice for one in InvoicePayments.model_validate(raw).data)
