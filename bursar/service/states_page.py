"""Writes `docs/states.md` from the table of transitions: `python -m bursar.service.states_page`."""

from collections.abc import Iterable, Sequence

from bursar.billing.kiloclaw.transitions import TRANSITIONS, State, Transition
from bursar.service.settings import CHECKOUT

PAGE = CHECKOUT / "docs" / "states.md"

INTRODUCTION = """\
# States of a subscription

Where the `kiloclaw_subscriptions` row of a user may stand, and every way from one state to another. The table is in
`bursar/billing/kiloclaw/transitions.py`. What it does not have is refused, and the message that asked for it parked.

A state is the row's plan (a trial, or paid: `standard` and `commit` alike), its status and its suspension.
`…_suspended` has a deadline of destruction ahead or just passed. `…_destroyed` is still suspended and has lost that
deadline: its instance is destroyed, or there was none. A change of plan, period or cancellation flag leaves the state
as it is.
"""
OURS = """
## What we bring about
By command or by a sweep.
"""
THEIRS = """
## What follows a payment
Stripe's events and reads, or the credit account. Events may be missing or late, so one may skip what lies between.
"""
TABLE = """
## All ways

| from | to | when |
|---|---|---|
"""


def states_page() -> str:
    """The page as Markdown, with two Mermaid diagrams and the whole table."""
    ours = [way for way in TRANSITIONS if way.ours]
    theirs = [way for way in TRANSITIONS if not way.ours]
    rows = (f"| {way.source.value} | {way.target.value} | {way.cause} |\n" for way in TRANSITIONS)
    return "".join((INTRODUCTION, OURS, _diagram(ours), THEIRS, _diagram(theirs), TABLE, *rows))


def _diagram(ways: Sequence[Transition]) -> str:
    lines = (f"    {_from(way.source)} --> {_to(way.target)}: {_rules(way.cause)}" for way in ways)
    return "\n".join(("", "```mermaid", "stateDiagram-v2", "    direction LR", *_once(lines), "```", ""))


def _once(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _rules(cause: str) -> str:
    """The rules alone, or the arrows would drown in words."""
    return cause.partition("(")[2].rstrip(")")


def _from(state: State) -> str:
    return "[*]" if state is State.NO_ROW else state.value


def _to(state: State) -> str:
    return "[*]" if state is State.DELETED else state.value


if __name__ == "__main__":
    PAGE.write_text(states_page(), encoding="utf-8")
