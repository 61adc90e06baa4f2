"""A failing plan made smaller: fewer steps, then without every kind of action and fault that it does not need."""

from collections.abc import Awaitable, Callable

from bursar.billing.values import replace
from bursar.service.simulation.actions import ACTIONS
from bursar.service.simulation.faults import FaultKind
from bursar.service.simulation.running import Outcome, Plan

MAX_REPLAYS = 120

Replay = Callable[[Plan], Awaitable[Outcome]]


class _Shrinking:
    def __init__(self, outcome: Outcome, play: Replay) -> None:
        self.smallest = outcome
        self._play = play
        self._replays = 0

    async def try_out(self, plan: Plan) -> bool:
        """Whether the same invariant breaks under that plan, too: then it is the smallest so far."""
        if self._replays >= MAX_REPLAYS:
            return False
        self._replays += 1
        outcome = await self._play(plan)
        broken, wanted = outcome.broken, self.smallest.broken
        if broken is None or wanted is None or (broken.rule, broken.sentence) != (wanted.rule, wanted.sentence):
            return False
        self.smallest = outcome
        return True


async def shrunk(outcome: Outcome, play: Replay) -> Outcome:
    """The smallest failing plan that was found within 120 replays."""
    shrinking = _Shrinking(outcome, play)
    await shrinking.try_out(replace(outcome.plan, steps=outcome.steps_done))
    await _fewer_steps(shrinking)
    await _fewer_kinds(shrinking)
    await _fewer_steps(shrinking)
    return shrinking.smallest


async def _fewer_steps(shrinking: _Shrinking) -> None:
    cut = shrinking.smallest.plan.steps // 2
    while cut:
        plan = shrinking.smallest.plan
        if plan.steps <= cut or not await shrinking.try_out(replace(plan, steps=plan.steps - cut)):
            cut //= 2


async def _fewer_kinds(shrinking: _Shrinking) -> None:
    faults = frozenset(kind.value for kind in FaultKind)
    if await shrinking.try_out(replace(shrinking.smallest.plan, without=shrinking.smallest.plan.without | faults)):
        faults = frozenset()
    for name in (*sorted(faults), *(action.name for action in ACTIONS)):
        plan, happened = shrinking.smallest.plan, shrinking.smallest.counts
        if happened[name]:
            await shrinking.try_out(replace(plan, without=plan.without | {name}))
