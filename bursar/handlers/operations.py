"""Operations at Stripe by name, and how they end, as items to be decided under the account's lock."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.arrivals import AUTO_TOP_UP
from bursar.billing.credits.checkout import CREDIT_CHECKOUT
from bursar.billing.credits.ledger import Credits
from bursar.billing.decision import Decision
from bursar.billing.errors import Permanent
from bursar.billing.kiloclaw.operations.cancel import CANCEL
from bursar.billing.kiloclaw.operations.checkout import CHECKOUT
from bursar.billing.kiloclaw.operations.reactivate import REACTIVATE
from bursar.billing.kiloclaw.operations.renewal import RENEW
from bursar.billing.kiloclaw.operations.schedule import KEEPING
from bursar.billing.kiloclaw.operations.switching import SWITCH, UNSWITCH
from bursar.billing.kiloclaw.stripe_events import reading
from bursar.billing.operations import STRIPE_REFUSED, Ended, Failure, Operation, OperationFacts
from bursar.billing.steps import StepKind, StepState
from bursar.billing.values import as_dict
from bursar.db.items import Decide, Dedupe, Item, Situation, StepAnswer
from bursar.db.steps import ClaimedStep
from bursar.handlers.steps import PARTS

# Every operation that a step may name in its payload.
_ALL: tuple[Operation[Any], ...] = (
    CHECKOUT,
    CANCEL,
    REACTIVATE,
    KEEPING,
    SWITCH,
    UNSWITCH,
    RENEW,
    CREDIT_CHECKOUT,
    AUTO_TOP_UP,
)
OPERATIONS: Mapping[str, Operation[Any]] = MappingProxyType({one.name: one for one in _ALL})

FAILED = Failure("operation_failed", "This could not be finished; operators were told.", 500)


def operation_of(step: ClaimedStep, operations: Mapping[str, Operation[Any]]) -> tuple[Operation[Any], BaseModel]:
    """The operation that the step names, and what was asked of it; `Permanent` for what another version wrote."""
    operation = operations.get(step.payload["operation"])
    if operation is None:
        raise Permanent("the step names an operation that this version does not know")
    try:
        return operation, operation.asked.model_validate(step.payload["asked"])
    except ValidationError:
        raise Permanent(f"what was asked of {operation.name} cannot be read") from None


def is_still_wanted(
    step: ClaimedStep,
    operation: Operation[Any],
    asked: BaseModel,
    account: Account,
    situation: Situation,
    catalogue: Catalogue,
) -> bool:
    """What the operation says under the account's lock (parts: those of `parts_of`) of going on from its start."""
    return operation.still_wanted is None or operation.still_wanted(account, asked, _facts(step, situation, catalogue))


def parts_of(step: ClaimedStep) -> frozenset[type[Any]]:
    """What deciding on the operation needs to know of the account."""
    return PARTS | {Credits} if step.kind is StepKind.TOP_UP else PARTS


def operation_ended(
    step: ClaimedStep, operation: Operation[Any], asked: BaseModel, ended: Ended, catalogue: Catalogue
) -> Item:
    """The operation's end is applied; where it failed, Stripe is read, so that the row follows it. What Stripe would
    not take back is left to operators.
    """

    def decide(account: Account, situation: Situation) -> Decision:
        facts = _facts(step, situation, catalogue)
        applied = operation.apply(account, asked, ended, facts)
        fits = ended.failure is None and not ended.not_undone
        return (
            applied
            if fits or not _is_of_subscription(step)
            else applied.then(reading(applied.account, "operation_failed"))
        )

    left = ", ".join(ended.not_undone)
    result = _result(ended.failure) if ended.failure else {"result": dict(ended.result or {})}
    state, error = (StepState.FAILED, f"not taken back: {left}") if left else (_state(step, ended), _error(ended))
    return _answering(step, decide, StepAnswer(step.id, step.lease, step.asked, state, error, result=result))


def operation_stopped(step: ClaimedStep, state: StepState, error: str) -> Item:
    """It can go neither on nor back: an operator's. Stripe is read, so that the row follows whatever happened."""

    def decide(account: Account, _: Situation) -> Decision:
        stopped = Decision.nothing(account, "operation_stopped")
        return reading(account, "operation_stopped") if _is_of_subscription(step) else stopped

    answer = StepAnswer(step.id, step.lease, step.asked, state, error, result=_result(FAILED))
    return _answering(step, decide, answer)


def _answering(step: ClaimedStep, decide: Decide, answer: StepAnswer) -> Item:
    return Item(_cause(step), step.account_key, parts_of(step), decide, Dedupe.STEP, answer=answer)


def _is_of_subscription(step: ClaimedStep) -> bool:
    """A payment of ours changes no subscription at Stripe: there is nothing to read."""
    return step.kind is not StepKind.TOP_UP


def _state(step: ClaimedStep, ended: Ended) -> StepState:
    """Whoever sent a command is told why it failed; of a schedule that cannot be kept only operators are, and of a
    payment that Stripe refused for another reason than the customer's (CR-39).
    """
    if ended.is_unwanted:
        return StepState.DROPPED
    refused = ended.failure is not None and ended.failure.code == STRIPE_REFUSED
    is_operators = ended.failure if step.kind is StepKind.KEEP_SCHEDULE else refused and step.kind is StepKind.TOP_UP
    return StepState.FAILED if is_operators else StepState.DONE


def _facts(step: ClaimedStep, situation: Situation, catalogue: Catalogue) -> OperationFacts:
    return OperationFacts(catalogue, situation.now, _cause(step))


def _cause(step: ClaimedStep) -> str:
    return f"step:{step.key}:{step.asked}:{step.attempts}"


def _result(failure: Failure) -> Mapping[str, Any]:
    return {"failure": as_dict(failure)}


def _error(ended: Ended) -> str | None:
    """For people who look why nothing came of it."""
    return f"{ended.failure.code}: {ended.failure.message}" if ended.failure else None
