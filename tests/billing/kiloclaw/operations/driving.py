"""Drives a plan with hand-made answers: what it asks of Stripe, and how it ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bursar.billing.account import Account, Profile
from bursar.billing.errors import CallRefused
from bursar.billing.kiloclaw.rows import Subscription
from bursar.billing.operations import Ended, Failure, Journal, OperationFacts, Operations, Plan, advance
from bursar.billing.stripe.calls import VIEWS, Call
from tests.billing.kiloclaw import making
from tests.billing.kiloclaw.making import CATALOGUE, NOW

MAX_TURNS = 40
Answers = Mapping[str, Mapping[str, Any] | CallRefused]


@dataclass
class Driven:
    """The calls in the order they were made, and the end."""

    ended: Ended
    calls: list[Call] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [call.name for call in self.calls]

    @property
    def failed_with(self) -> str | None:
        return self.ended.failure.code if self.ended.failure else None

    def called(self, name: str) -> Call:
        return next(call for call in self.calls if call.name == name)


def drive(plan: Callable[[], Plan], answers: Answers) -> Driven:
    """Go forward, and back where it fails; an undo that has no answer of its own succeeds."""
    journal, calls = Journal(), list[Call]()
    for _ in range(MAX_TURNS):
        following = advance(plan, journal)
        if isinstance(following, Ended):
            return Driven(following, calls)
        if isinstance(following, Failure):
            journal = journal.failing(following)
            continue
        calls.append(following)
        journal = _answered(journal, following, answers)
    raise AssertionError("the plan does not end")


def an_account(
    row: Subscription | None = None, profile: Profile | None = None, under_way: Operations | None = None
) -> Account:
    """An account with all the parts that these commands need."""
    return making.an_account(row, profile=profile).having(under_way or Operations())


def facts(now: datetime = NOW) -> OperationFacts:
    return OperationFacts(CATALOGUE, now, "step:operation:c1:1")


def listed(*objects: Mapping[str, Any]) -> dict[str, Any]:
    return {"data": list(objects)}


def _answered(journal: Journal, call: Call, answers: Answers) -> Journal:
    answer = answers.get(call.name)
    if isinstance(answer, CallRefused):
        return journal.refused(call, answer)
    if answer is None:
        assert call.name.startswith("undo:"), f"no answer is made for {call.name}"
        return journal.answered(call, {})
    view = VIEWS[call.method].model_validate(answer)
    return journal.answered(call, view.model_dump(mode="json"))
