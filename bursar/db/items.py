"""What goes into `decide_batch`, and what comes out of it."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.steps import StepState
from bursar.billing.values import Value


class Situation(Value):
    """The instants of a batch: `now` is business time, `real_now` the machine's; and whether a destruction is left
    today; and which of the names that its items bear were erased with a deleted user (KC-121).
    """

    now: datetime
    real_now: datetime
    slot_left: bool = True
    erased: frozenset[str] = frozenset()


Decide = Callable[[Account, Situation], Decision]


class MessageCopy(Value):
    """A message as it came, kept so that it can be parked and decided again (MS-6)."""

    type: str
    headers: Mapping[str, Any]
    body: bytes


class StepAnswer(Value):
    """Ends a step in the transaction that decides on its outcome; void when its lease or the asking is no longer the
    newest. `again_at` (real time) is when to ask again if the decision finds the answer outdated; at once without it.
    `result` is kept for whoever asks how an operation ended. A step that `forgets` loses its key and payload when it is
    done or dropped: they name who was deleted (KC-121).
    """

    step_id: int
    lease: UUID
    asked: int
    state: StepState
    error: str | None = None
    again_at: datetime | None = None
    result: Mapping[str, Any] | None = None
    forgets: bool = False


class NewLease(Value):
    """The lease under which a command's operation is born: whoever sent the command carries it out at once."""

    id: UUID
    lasts: timedelta


class Dedupe(StrEnum):
    """By what a second delivery of the same item is known."""

    INBOX = "inbox"  # messages and commands: the item's id
    PARKED = "parked"  # a message decided again from its parked row
    STEP = "step"  # a step's lease
    STATE = "state"  # sweeps and instances: the state read again under the lock


class Item(Value):
    """One message, command, candidate or outcome for one account, with its decision.

    `id` becomes the cause in the change log. A message carries its `copy` (and, from its parked row, its `attempts`),
    a step's outcome its `answer`, a command that may begin an operation the `lease` for it. `names` is what else it is
    about, as `subscription:{id}`: where one of them was erased, `too_late` is decided instead, mostly nothing (KC-121).
    `payments`: all that its decision asks the ledger about; None where that is not known before.
    """

    id: str
    key: str
    parts: frozenset[type[Any]]
    decide: Decide
    dedupe: Dedupe = Dedupe.INBOX
    actor: str = "system"
    copy: MessageCopy | None = None
    attempts: int = 0
    answer: StepAnswer | None = None
    lease: NewLease | None = None
    names: frozenset[str] = frozenset()
    too_late: Callable[[Account], Decision] | None = None
    payments: frozenset[str] | None = None


class OutcomeState(StrEnum):
    """How an item ended."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    FAILED = "failed"  # a message: written down for a retry or parked; others: nothing of it was saved


class Outcome(Value):
    """One per item, in the order of the items."""

    item: Item
    state: OutcomeState
    decision: Decision | None = None
    error: Exception | None = None
