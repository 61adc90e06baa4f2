"""The life of a subscription row: its states, and every way from one to another with the rules that allow it.

`with_row` refuses whatever is not declared here, and docs/states.md is made from it. A plan, a period or a cancellation
flag may change without a change of the state.
"""

from collections.abc import Collection, Mapping
from enum import Enum
from types import MappingProxyType

from bursar.billing.errors import UndeclaredTransition
from bursar.billing.kiloclaw.rows import Subscription
from bursar.billing.values import Value


class State(Enum):
    """Where a row stands. `…_suspended` still has its deadline of destruction, `…_destroyed` has lost it (KC-73)."""

    NO_ROW = "no_row"
    TRIAL = "trial"
    TRIAL_ENDED = "trial_ended"
    TRIAL_SUSPENDED = "trial_suspended"
    TRIAL_DESTROYED = "trial_destroyed"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    PAST_DUE_SUSPENDED = "past_due_suspended"
    PAST_DUE_DESTROYED = "past_due_destroyed"
    UNPAID = "unpaid"
    UNPAID_SUSPENDED = "unpaid_suspended"
    UNPAID_DESTROYED = "unpaid_destroyed"
    CANCELED = "canceled"
    CANCELED_SUSPENDED = "canceled_suspended"
    CANCELED_DESTROYED = "canceled_destroyed"
    DELETED = "deleted"


class Transition(Value):
    """One declared way. `cause` names the rules; `ours` is false where Stripe or the credit account decides."""

    source: State
    target: State
    cause: str
    ours: bool = False


_OPEN = (State.ACTIVE, State.PAST_DUE, State.UNPAID, State.CANCELED)
_SUSPENDED = (State.PAST_DUE_SUSPENDED, State.UNPAID_SUSPENDED, State.CANCELED_SUSPENDED)
_DESTROYED = (State.PAST_DUE_DESTROYED, State.UNPAID_DESTROYED, State.CANCELED_DESTROYED)
_TRIAL_OVER = (State.TRIAL_SUSPENDED, State.TRIAL_DESTROYED)
_DELETABLE = (
    *(State.TRIAL, State.TRIAL_ENDED, *_TRIAL_OVER),
    *(State.CANCELED, State.CANCELED_SUSPENDED, State.CANCELED_DESTROYED),
)


def _ways(
    sources: Collection[State], targets: Collection[State], cause: str, *, ours: bool = False
) -> list[Transition]:
    """From each source to each other target."""
    return [Transition(source, target, cause, ours) for source in sources for target in targets if source != target]


def _one(source: State, target: State, cause: str) -> list[Transition]:
    return _ways((source,), (target,), cause, ours=True)


TRANSITIONS: tuple[Transition, ...] = (
    *_one(State.NO_ROW, State.TRIAL, "trial started (KC-10)"),
    *_one(State.TRIAL, State.TRIAL_SUSPENDED, "trial over (KC-60)"),
    *_one(State.TRIAL, State.TRIAL_ENDED, "trial over, earlybird covers (KC-60, KC-101)"),
    *_one(State.CANCELED, State.CANCELED_SUSPENDED, "paid period over (KC-70)"),
    *_one(State.PAST_DUE, State.PAST_DUE_SUSPENDED, "grace over (KC-71)"),
    *_one(State.UNPAID, State.UNPAID_SUSPENDED, "grace over (KC-71)"),
    *_one(State.TRIAL_SUSPENDED, State.TRIAL_DESTROYED, "deadline passed (KC-73)"),
    *_one(State.PAST_DUE_SUSPENDED, State.PAST_DUE_DESTROYED, "deadline passed (KC-73)"),
    *_one(State.UNPAID_SUSPENDED, State.UNPAID_DESTROYED, "deadline passed (KC-73)"),
    *_one(State.CANCELED_SUSPENDED, State.CANCELED_DESTROYED, "deadline passed (KC-73)"),
    *_one(State.TRIAL_SUSPENDED, State.TRIAL_ENDED, "earlybird bought (KC-90, KC-101)"),
    *_one(State.PAST_DUE_SUSPENDED, State.PAST_DUE, "earlybird bought (KC-90, KC-101)"),
    *_one(State.UNPAID_SUSPENDED, State.UNPAID, "earlybird bought (KC-90, KC-101)"),
    *_one(State.CANCELED_SUSPENDED, State.CANCELED, "earlybird bought (KC-90, KC-101)"),
    *_one(State.ACTIVE, State.DELETED, "user deleted, cancellation pending (KC-120)"),
    *_ways(_DELETABLE, (State.DELETED,), "user deleted (KC-120)", ours=True),
    *_ways((State.NO_ROW, State.TRIAL, State.TRIAL_ENDED), _OPEN, "subscription taken over (KC-30, CR-22)"),
    *_ways(_OPEN, _OPEN, "status followed (KC-33, KC-35, KC-37, CR-34, CR-37, CR-39)"),
    *_ways(
        (*_TRIAL_OVER, *_SUSPENDED, *_DESTROYED),
        (State.ACTIVE,),
        "paid again (KC-37, KC-90, CR-24, CR-37)",
    ),
    *_ways(
        (*_TRIAL_OVER, *_SUSPENDED, *_DESTROYED),
        (State.PAST_DUE,),
        "taken over by one with access (KC-30, KC-74)",
    ),
    *_ways((State.TRIAL_SUSPENDED,), (State.UNPAID_SUSPENDED, State.CANCELED_SUSPENDED), "taken over (KC-30)"),
    *_ways((State.TRIAL_DESTROYED,), (State.UNPAID_DESTROYED, State.CANCELED_DESTROYED), "taken over (KC-30)"),
    *_ways(_SUSPENDED, _SUSPENDED, "status followed, suspension stays (KC-33, CR-34)"),
    *_ways(_DESTROYED, _DESTROYED, "status followed, suspension stays (KC-33, CR-34)"),
)
DECLARED = frozenset((way.source, way.target) for way in TRANSITIONS)
_TRIALS: Mapping[tuple[str, str], State] = MappingProxyType(
    {
        ("trialing", ""): State.TRIAL,
        ("canceled", ""): State.TRIAL_ENDED,
        ("canceled", "_suspended"): State.TRIAL_SUSPENDED,
        ("canceled", "_destroyed"): State.TRIAL_DESTROYED,
    }
)
_PAID: Mapping[tuple[str, str], State] = MappingProxyType(
    {
        (state.value.removesuffix(standing), standing): state
        for standing, states in (("", _OPEN), ("_suspended", _SUSPENDED), ("_destroyed", _DESTROYED))
        for state in states
    }
)


def state_of(row: Subscription | None) -> State:
    """Where the row stands; UndeclaredTransition for a combination that no rule knows."""
    if row is None:
        return State.NO_ROW
    known = _TRIALS if row.plan == "trial" else _PAID
    standing = "" if row.suspended_at is None else "_suspended" if row.destruction_deadline else "_destroyed"
    state = known.get((row.status, standing))
    if state is None or (row.destruction_deadline and not row.suspended_at):
        raise UndeclaredTransition(f"no such state: plan {row.plan}, status {row.status}{standing}")
    return state


def check_transition(before: Subscription | None, after: Subscription) -> None:
    """Raises UndeclaredTransition for a change of the state that is not declared; the message is parked."""
    source, target = state_of(before), state_of(after)
    if source != target and (source, target) not in DECLARED:
        raise UndeclaredTransition(f"from {source.value} to {target.value}")
