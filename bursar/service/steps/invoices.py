"""Asking Stripe which invoice a refunded or disputed payment had paid (CR-11)."""

import asyncio

from bursar.billing.credits.invoice_search import InvoiceSearch
from bursar.billing.errors import Retryable
from bursar.billing.steps import StepKind
from bursar.billing.stripe.lists import InvoicePayments
from bursar.db.items import Item
from bursar.handlers.steps import invoice_found
from bursar.service.steps.bounds import STEPS
from bursar.service.steps.jobs import BeginCall, StepJob
from bursar.service.steps.operations import StripeCalls


class InvoiceFinder:
    """Lists the invoices that a payment paid. A read, which may be made twice."""

    kind = StepKind.FIND_INVOICE

    def __init__(self, stripe: StripeCalls) -> None:
        self._stripe = stripe

    async def attempt(self, job: StepJob, _: BeginCall) -> Item:
        """The outcome. Raises `Retryable` or `Permanent`."""
        search = InvoiceSearch.model_validate(job.step.payload)
        call = search.call
        if call is None:
            return invoice_found(job.step, search, ())
        try:
            async with asyncio.timeout(STEPS[self.kind].timeout_seconds):
                raw = await self._stripe.call(call, job.step.key)
        except TimeoutError:
            raise Retryable("Stripe did not answer in time") from None
        found = InvoicePayments.model_validate(raw)
        return invoice_found(job.step, search, tuple(one.invoice for one in found.data))
