"""Operations: several calls to Stripe that happen as one, or are taken back.

A plan is a generator: it yields a `Call`, receives what Stripe answered, and returns its result. The answers are kept
in a journal, so that whoever carries it on, in the request or in a worker after a crash, replays the plan over the
journal and goes on where it ended. What undoes a call stands with the call, as data: when the operation fails, the
undos follow in reverse order.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

import msgspec
from pydantic import BaseModel

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.decision import Decision
from bursar.billing.errors import CallRefused, Permanent, Refused
from bursar.billing.steps import Step, StepKind
from bursar.billing.stripe.calls import VIEWS, Call
from bursar.billing.values import Value, field, replace

MAX_CALLS = 24  # of one round; more is a bug
MAX_ROUNDS = 20  # as many as a step has attempts: an outage spends a key each time
UNDO = "undo:"
STRIPE_REFUSED = "stripe_refused"

Plan = Generator[Call, Any, Mapping[str, Any]]
Json = Mapping[str, Any]
Asked = TypeVar("Asked", bound=BaseModel)


class Entry(Value):
    """One call as it went: begun (real time), then answered (our view of Stripe's object) or refused (Stripe's
    code).
    """

    name: str
    begun_at: datetime | None = None
    answer: Json | None = None
    refusal: str | None = None
    refusal_message: str = ""
    undo: Call | None = None
    settles: bool = False
    fades: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether from here on there is only forward."""
        return self.settles and self.answer is not None

    @property
    def is_answered(self) -> bool:
        """Whether its outcome is known."""
        return self.answer is not None or self.refusal is not None

    @property
    def is_undo(self) -> bool:
        """Whether it took another's effect back."""
        return self.name.startswith(UNDO)


class Failure(Value):
    """Why an operation ends without its result, as the caller is told."""

    code: str
    message: str
    status: int = 400

    @classmethod
    def of(cls, error: Refused | CallRefused) -> "Failure":
        """A refusal of Stripe that the plan did not expect is a failure on our way to it."""
        if isinstance(error, Refused):
            return cls(error.code, str(error), error.status)
        return cls(STRIPE_REFUSED, f"Stripe refused a call ({error.code}).", 502)


ABANDONED = Failure("operation_abandoned", "This took too long and was taken back; ask again, under a new key.", 503)
UNWANTED = Failure("no_longer_wanted", "Nobody wants this any more; nothing was done.", 409)
IN_PROGRESS = ("operation_in_progress", "Another change of this subscription is under way; try again.")


class Journal(Value):
    """What happened so far. A new round looks at everything again; what earlier rounds did stays to be undone."""

    entries: tuple[Entry, ...] = ()
    earlier: tuple[Entry, ...] = ()
    round: int = 0
    failure: Failure | None = None

    @property
    def in_flight(self) -> Entry | None:
        """The call that was begun and whose outcome nobody knows yet."""
        last = self.entries[-1] if self.entries else None
        return last if last and not last.is_answered else None

    def begun(self, call: Call, begun_at: datetime) -> Self:
        """A call that changes Stripe is about to be made; one that is in flight already keeps its instant."""
        return (
            self
            if self.in_flight
            else self._with(Entry(call.name, begun_at=begun_at, undo=call.undo, settles=call.settles, fades=call.fades))
        )

    def answered(self, call: Call, answer: Json) -> Self:
        """Stripe answered."""
        return self._with(Entry(call.name, answer=answer, undo=call.undo, settles=call.settles, fades=call.fades))

    def refused(self, call: Call, refusal: CallRefused) -> Self:
        """Stripe said no: nothing happened."""
        return self._with(Entry(call.name, refusal=refusal.code, refusal_message=str(refusal)))

    def failing(self, failure: Failure) -> Self:
        """From here on only back."""
        return replace(self, failure=failure)

    def next_round(self) -> Self:
        """The key of the last call is spent: look again, then call under new keys (MS-11)."""
        if self.round + 1 >= MAX_ROUNDS:
            raise Permanent(f"given up after {MAX_ROUNDS} rounds")
        kept = tuple(entry for entry in self.entries if (entry.is_answered if entry.is_undo else _may_be_there(entry)))
        return replace(self, entries=(), earlier=(*self.earlier, *kept), round=self.round + 1)

    @property
    def everything(self) -> tuple[Entry, ...]:
        """The entries of all rounds."""
        return (*self.earlier, *self.entries)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads again."""
        written: dict[str, Any] = msgspec.to_builtins(self, enc_hook=dict)  # other mappings
        return written

    @staticmethod
    def from_json(written: Json) -> "Journal":
        """Raises `Permanent` for a journal that another version wrote."""
        try:
            return msgspec.convert(written, Journal)
        except msgspec.ValidationError:
            raise Permanent("the journal cannot be read") from None

    def _with(self, entry: Entry) -> Self:
        known = self.entries[:-1] if self.entries and self.entries[-1].name == entry.name else self.entries
        return replace(self, entries=(*known, entry))


class Ended(Value):
    """The operation's end: its result; or why it failed. `answers` are the views of the last round by call name;
    `not_undone` names the effects that Stripe refused to take back, or that may be there unknown: an operator's.
    """

    result: Json | None
    failure: Failure | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)
    not_undone: tuple[str, ...] = ()

    @property
    def is_unwanted(self) -> bool:
        """Whether it was given up before anything was changed, since it was no longer wanted."""
        return self.failure == UNWANTED


class Operations(Value):
    """A part of an account: what is under way for it at Stripe. Never saved, since asking for a step writes it.

    `open_keys` are the keys of its open operations: one at most, as Postgres sees to. `keeps_schedule`: somebody has
    claimed the step that keeps its schedule. `tops_up`: a payment may be under way, which only a deletion waits for.
    """

    open_keys: tuple[str, ...] = ()
    keeps_schedule: bool = False
    tops_up: bool = False


class OperationFacts(Value):
    """What applying an end may need besides the account. `cause` names the step; ids derive from it."""

    catalogue: Catalogue
    now: datetime
    cause: str


class Operation(Value, Generic[Asked]):
    """A kind of operation. `asked` is kept in the step's payload; `apply` decides on the end under the account's lock:
    the row may have moved meanwhile, often by the webhook of the very change.

    `still_wanted` is asked under that lock, too: right before the first call, and before the one that settles it. Once
    no longer wanted, it ends as `UNWANTED`.
    """

    name: str
    asked: type[Asked]
    plan: Callable[[Asked], Plan]
    apply: Callable[[Account, Asked, Ended, OperationFacts], Decision]
    still_wanted: Callable[[Account, Asked, OperationFacts], bool] | None = None


def advance(plan: Callable[[], Plan], journal: Journal, *, give_up: bool = False) -> Call | Failure | Ended:
    """What comes next: a call, forward or back; the failure to write into the journal; or the end.

    With `give_up` no new call goes forward, unless there is no way back any more; but one that was begun is made again
    to learn how it went. Raises `Permanent` for a journal that another version of the plan wrote.
    """
    answers: dict[str, Any] = {}
    if journal.failure:
        undo = _next_undo(journal)
        return undo or Ended(None, journal.failure, _answers(plan, journal), _not_undone(journal))
    try:
        pending = _replay(plan(), journal.entries, answers)
    except StopIteration as stop:
        return Ended(stop.value, answers=answers)
    except (Refused, CallRefused) as refusal:
        return Failure.of(refusal)
    may_go_back = not journal.in_flight and not any(entry.is_settled for entry in journal.everything)
    return ABANDONED if give_up and may_go_back else pending


def begin(account: Account, operation_name: str, asked: BaseModel, command_id: str) -> Decision:
    """Begin an operation that a command asks for (parts: Operations, and what the command itself needs).

    Raises `Refused` where another change of the account is under way: one at a time.
    """
    under_way = account.part(Operations)
    if under_way.open_keys or under_way.keeps_schedule:
        raise Refused(*IN_PROGRESS, status=409)
    step = Step(StepKind.OPERATION, operation_key(command_id), _payload(operation_name, asked))
    begun = account.having(replace(under_way, open_keys=(step.key,)))
    return Decision(begun, (step,), counts={"operation_begun": 1})


def operation_key(command_id: str) -> str:
    """The key of the step of a command's operation."""
    return f"operation:{command_id}"


def keeping(account: Account, operation_name: str, asked: Mapping[str, Any]) -> Step:
    """The step that brings the account's schedule in order, once for all that ask while it is due. Its plan looks
    first: it is run again from its start whenever it is asked for anew or comes back after a pause. `asked` is what the
    operation's model reads, as JSON.
    """
    key = f"keep-schedule:{account.key}"
    return Step(StepKind.KEEP_SCHEDULE, key, {"operation": operation_name, "asked": asked}, coalesced=True)


def _payload(operation_name: str, asked: BaseModel) -> Json:
    return {"operation": operation_name, "asked": asked.model_dump(mode="json")}


def _replay(generator: Plan, entries: Sequence[Entry], answers: dict[str, Any]) -> Call:
    """The first call whose outcome the journal does not know; the views of the others go into `answers`."""
    call = next(generator)
    for entry in entries:
        if entry.name != call.name:
            raise Permanent(f"the journal has {entry.name!r} where the plan now calls {call.name!r}")
        if not entry.is_answered:
            return call
        try:
            call = _told(generator, call, entry, answers)
        except StopIteration:
            if entry is not entries[-1]:
                raise Permanent(f"the journal goes on after {entry.name!r}, where the plan now ends") from None
            raise
    if len(entries) >= MAX_CALLS:
        raise Permanent(f"an operation has at most {MAX_CALLS} calls")
    return call


def _told(generator: Plan, call: Call, entry: Entry, answers: dict[str, Any]) -> Call:
    """What the plan calls once it is told how the call went."""
    if entry.refusal is not None:
        return generator.throw(CallRefused(entry.refusal, entry.refusal_message))
    answers[call.name] = VIEWS[call.method].model_validate(entry.answer)
    return generator.send(answers[call.name])


def _answers(plan: Callable[[], Plan], journal: Journal) -> Mapping[str, Any]:
    answers: dict[str, Any] = {}
    try:
        _replay(plan(), [entry for entry in journal.entries if not entry.is_undo], answers)
    except (StopIteration, Refused, Permanent):
        return answers  # going back needs no plan: another version's journal is taken back all the same
    return answers


def _effects(journal: Journal) -> list[tuple[str, Entry]]:
    """What may have to be taken back, oldest first, each with the name of its undo."""
    settled = [number for number, entry in enumerate(journal.everything, 1) if entry.is_settled]
    open_to_undo = journal.everything[settled[-1] if settled else 0 :]
    forward = [entry for entry in open_to_undo if not entry.is_undo and entry.undo and entry.answer is not None]
    return [(f"{UNDO}{number}:{entry.name}", entry) for number, entry in enumerate(forward)]


def _next_undo(journal: Journal) -> Call | None:
    tried = {entry.name for entry in journal.everything if entry.is_undo and entry.is_answered}
    for name, entry in reversed(_effects(journal)):
        if name not in tried:
            assert entry.undo, "only these are effects"
            assert entry.answer is not None, "likewise"
            return replace(entry.undo, name=name, target=entry.undo.target or entry.answer["id"])
    return None


def _not_undone(journal: Journal) -> tuple[str, ...]:
    faded = {name for name, effect in _effects(journal) if effect.fades}
    undos = [entry for entry in journal.everything if entry.is_undo and entry.name not in faded]
    refused = (entry.name for entry in undos if entry.refusal is not None)
    unknown = (entry.name for entry in journal.earlier if not entry.is_answered and not entry.fades)
    return (*refused, *unknown)


def _may_be_there(entry: Entry) -> bool:
    """Whether it had an effect that counts later, as far as anybody knows."""
    return entry.is_settled or (entry.undo is not None and entry.refusal is None)
