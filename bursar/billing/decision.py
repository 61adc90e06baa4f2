"""What a decision returns: the account as it shall be, and what shall happen next."""

from collections.abc import Callable, Mapping
from typing import Any

from bursar.billing.account import Account
from bursar.billing.steps import Step
from bursar.billing.values import Value, field


class Decision(Value):
    """The outcome of a pure decision.

    `reason` goes into the change log with each row it changed; `counts` are added to a tick's or the metrics' figures;
    `result` is what a command answers with; `destruction_slots` asks for some of the day's destructions (KC-74).
    `follow_ups` are further items of the same account, decided after this one in the same transaction. One that raises
    is dropped alone, so each must be something that is found again by itself.
    """

    account: Account
    steps: tuple[Step, ...] = ()
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    destruction_slots: int = 0
    follow_ups: tuple[Callable[[Account], "Decision"], ...] = ()

    @classmethod
    def nothing(cls, account: Account, count: str) -> "Decision":
        """Change nothing, but count under that name why."""
        return cls(account, counts={count: 1})

    def then(self, second: "Decision") -> "Decision":
        """Both decisions as one, the second made on the account that this one left."""
        counts = dict(self.counts)
        for name, number in second.counts.items():
            counts[name] = counts.get(name, 0) + number
        return Decision(
            account=second.account,
            steps=self.steps + second.steps,
            reason="; ".join(part for part in (self.reason, second.reason) if part),
            counts=counts,
            destruction_slots=self.destruction_slots + second.destruction_slots,
            follow_ups=self.follow_ups + second.follow_ups,
        )
