"""A claimed step with what it needs to know, and what a kind of step is."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from bursar.billing.account import Account
from bursar.billing.steps import StepKind, StepState
from bursar.billing.values import Value
from bursar.db.items import Item, Situation
from bursar.db.steps import ClaimedStep

# To be awaited right before a call that must not be made twice; raises `Stale` when the lease is lost.
BeginCall = Callable[[], Awaitable[None]]
# The item that ends a step without its outcome.
Stopped = Callable[[ClaimedStep, StepState, str], Item]


class StepJob(Value):
    """`account` is as it was without its lock, and `situation` the instants, when the step was claimed."""

    step: ClaimedStep
    account: Account
    situation: Situation


class StepWork(Protocol):
    """How one kind of step is carried out."""

    kind: StepKind

    async def attempt(self, job: StepJob, begin_call: BeginCall) -> Item:
        """Carry the step out once; the outcome is an item that answers it. Raises `Retryable` or `Permanent`."""
        ...
