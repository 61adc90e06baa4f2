"""Folding a batch: each item's pure decision applied to what the one before left, an error caught and kept (KC-78,
MS-5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.db.change_log import ChangeEntry, changes_between
from bursar.db.items import Item, Situation
from bursar.db.steps import Wanted


@dataclass(frozen=True, slots=True)
class Failure:
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


def fold(
    accounts: Mapping[str, Account], items: Sequence[Item], situation: Situation, slots: int | None = None
) -> Folded:
    """Decide the items in order. `slots` bounds the destructions among them; None when that is not known yet."""
    folded = Folded(dict(accounts))
    for item in items:
        left = slots is None or folded.slots_wanted < slots
        _decide_one(folded, item, situation if left else replace(situation, slot_left=False))
    return folded


def _decide_one(folded: Folded, item: Item, situation: Situation) -> None:
    before = folded.accounts[item.key]
    try:
        decision = _too_late(item, before) if _is_erased(item, situation) else item.decide(before, situation)
        changes = tuple(
            changes_between(before, decision.account, cause=item.id, actor=item.actor, reason=decision.reason)
        )
    except Exception as error:  # noqa: BLE001 - one message's bug must not stop the others (MS-5)
        folded.failures.append(Failure(item, error))
        return
    folded.accounts[item.key] = decision.account
    folded.decisions.append((item, decision))
    folded.changes.extend(changes)


def _is_erased(item: Item, situation: Situation) -> bool:
    return bool(situation.erased) and not situation.erased.isdisjoint((item.key, *item.names))


def _too_late(item: Item, account: Account) -> Decision:
    """Nothing for a deleted user, whatever comes (KC-121); a command is told so."""
    if item.actor == "api":
        raise Refused("user_deleted", "This user was deleted.", status=410)
    return Decision.nothing(account, "deleted_user")
