"""Folding a batch: each item's pure decision applied to what the one before left, an error caught and kept (KC-78,
MS-5).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.values import Value, replace
from bursar.db.change_log import ChangeEntry, changes_between
from bursar.db.items import Item, Situation
from bursar.db.steps import Wanted

MAX_FOLLOW_UPS = 8  # of one item; what is left is found again by a sweep


class Failure(Value):
    """An item whose decision raised: nothing of it is saved."""

    item: Item
    error: Exception


@dataclass(slots=True)
class Folded:
    """What a batch decided."""

    accounts: dict[str, Account]
    decisions: list[tuple[Item, Decision]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    changes: list[ChangeEntry] = field(default_factory=list)

    @property
    def steps(self) -> list[Wanted]:
        """All steps that the decisions asked for."""
        return [
            Wanted(decision.account.key, step, item.id, item.lease)
            for item, decision in self.decisions
            for step in decision.steps
        ]

    @property
    def slots_wanted(self) -> int:
        """How many destructions the decisions ask for (KC-74)."""
        return sum(decision.destruction_slots for _, decision in self.decisions)

    def changed(self, before: Mapping[str, Account]) -> dict[str, Account]:
        """The accounts that are no longer what they were."""
        return {key: account for key, account in self.accounts.items() if account is not before[key]}


def fold(folded: Folded, items: Sequence[Item], situation: Situation, slots: int | None = None) -> None:
    """Decide the items in order, after those decided already. `slots` bounds the destructions in all of it; None when
    that is not known yet.
    """
    for item in items:
        left = slots is None or folded.slots_wanted < slots
        _decide_one(folded, item, situation if left else replace(situation, slot_left=False))


def _decide_one(folded: Folded, item: Item, situation: Situation) -> None:
    before = folded.accounts[item.key]
    try:
        decision = _too_late(item, before) if _is_erased(item, situation) else item.decide(before, situation)
        changes = _changes(item, before, decision)
    except Exception as error:  # noqa: BLE001 - one message's bug must not stop the others (MS-5)
        folded.failures.append(Failure(item, error))
        return
    folded.changes.extend(changes)
    whole = _followed(folded, item, decision) if decision.follow_ups else decision
    folded.accounts[item.key] = whole.account
    folded.decisions.append((item, whole))


def _followed(folded: Folded, item: Item, decision: Decision) -> Decision:
    """The decision with its follow-ups, and theirs, in order; each change of a row has its own entry (KC-4)."""
    waiting, whole = deque(decision.follow_ups), decision
    for _ in range(MAX_FOLLOW_UPS):
        if not waiting:
            break
        try:
            further = waiting.popleft()(whole.account)
            folded.changes.extend(_changes(item, whole.account, further))
        except Exception:  # noqa: BLE001 - what brought it has happened all the same (KC-78)
            further = Decision.nothing(whole.account, "follow_up_failed")
        waiting.extend(further.follow_ups)
        whole = replace(whole.then(further), result=decision.result)
    return whole


def _changes(item: Item, before: Account, decision: Decision) -> tuple[ChangeEntry, ...]:
    return tuple(changes_between(before, decision.account, cause=item.id, actor=item.actor, reason=decision.reason))


def _is_erased(item: Item, situation: Situation) -> bool:
    return bool(situation.erased) and not situation.erased.isdisjoint((item.key, *item.names))


def _too_late(item: Item, account: Account) -> Decision:
    """Nothing for a deleted user, unless it must go back (KC-121); a command is told so."""
    if item.actor == "api":
        raise Refused("user_deleted", "This user was deleted.", status=410)
    return item.too_late(account) if item.too_late else Decision.nothing(account, "deleted_user")
