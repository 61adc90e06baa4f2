"""What a run came to, as values, as tables and as JSON."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bursar.billing.values import Value
from bursar.service.chaos.watching import Disturbed

FAULTS_SHOWN = 20


class Kind(Value):
    """The disturbances of one kind. `recovery_seconds` in their order; None where the run ended before."""

    kind: str
    times: int
    lasted_seconds: float  # the longest, from its begin to its end
    recovery_seconds: Sequence[float | None]

    @property
    def known(self) -> list[float]:
        return sorted(seconds for seconds in self.recovery_seconds if seconds is not None)

    @property
    def median_seconds(self) -> float | None:
        return self.known[len(self.known) // 2] if self.known else None

    @property
    def longest_seconds(self) -> float | None:
        return self.known[-1] if self.known else None


class Report(Value):
    """Of a whole run; no faults is a pass. `answers` are by status, 0 where there was no answer."""

    seed: int
    users: int
    events: int
    accepted: int
    sent: int
    resent: int
    answers: Mapping[int, int]
    seconds: float
    delivered_seconds: float
    still_seconds: float
    untaken_seconds: float
    disturbed: Sequence[Disturbed]
    starts: Mapping[str, int]
    ended: Mapping[str, Sequence[int]]
    changes: int
    ticks: int
    faults: Sequence[str]

    @property
    def exit_code(self) -> int:
        return 1 if self.faults else 0

    @property
    def sentence(self) -> str:
        if self.faults:
            return f"{len(self.faults)} faults; the same course again: --seed {self.seed}"
        return f"all {self.accepted:,} accepted events took effect exactly once: nothing lost, nothing doubled"

    def kinds(self) -> list[Kind]:
        """By kind, in alphabetical order."""
        by_kind = defaultdict[str, list[Disturbed]](list)
        for one in self.disturbed:
            by_kind[one.kind].append(one)
        return [
            Kind(
                kind,
                len(ones),
                max(one.over_at - one.began_at for one in ones),
                [one.recovery_seconds for one in ones],
            )
            for kind, ones in sorted(by_kind.items())
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything printed, for a program to read."""
        return {
            "seed": self.seed,
            "users": self.users,
            "events": {
                "different": self.events,
                "accepted": self.accepted,
                "sent": self.sent,
                "resent": self.resent,
                "answers": {str(status): count for status, count in sorted(self.answers.items())},
            },
            "seconds": round(self.seconds, 1),
            "delivered_seconds": round(self.delivered_seconds, 1),
            "longest_without_progress_seconds": round(self.still_seconds, 1),
            "longest_without_a_webhook_taken_seconds": round(self.untaken_seconds, 1),
            "disturbances": [_kind_as_json(kind) for kind in self.kinds()],
            "starts": dict(self.starts),
            "ended_by_themselves": {name: list(codes) for name, codes in self.ended.items()},
            "changes": self.changes,
            "ticks": self.ticks,
            "verdict": {"ok": not self.faults, "sentence": self.sentence, "faults": list(self.faults)},
        }

    def print_to(self, console: Console) -> None:
        """Tables and the verdict."""
        console.print(_table("Chaos", ("what", "count"), self._lines()))
        console.print(_table("Disturbances", ("kind", "times", "lasted", "recovery, median", "longest"), self._kinds()))
        colour = "red" if self.faults else "green"
        for fault in self.faults[:FAULTS_SHOWN]:
            console.print(f"  {fault}", style=colour, markup=False, highlight=False)
        console.print(f"Verdict: {self.sentence}", style=f"bold {colour}", markup=False, highlight=False)

    def _lines(self) -> list[tuple[str, object]]:
        return [
            ("events accepted", f"{self.accepted:,} of {self.events:,}"),
            ("deliveries, some events twice", f"{self.sent:,}"),
            ("resent", f"{self.resent:,}"),
            ("answered 503", f"{self.answers.get(503, 0):,}"),
            ("not answered", f"{self.answers.get(0, 0):,}"),
            ("entries of the change log", f"{self.changes:,}"),
            ("ticks", self.ticks),
            ("processes started", sum(self.starts.values())),
            ("processes that ended by themselves", sum(len(codes) for codes in self.ended.values())),
            ("disturbances", len(self.disturbed)),
            ("longest without progress", f"{self.still_seconds:.1f} s"),
            ("longest without a webhook taken", f"{self.untaken_seconds:.1f} s"),
            ("until all was delivered", f"{self.delivered_seconds:.1f} s"),
            ("until quiet", f"{self.seconds:.1f} s"),
        ]

    def _kinds(self) -> list[tuple[object, ...]]:
        return [
            (one.kind, one.times, *map(_seconds, (one.lasted_seconds, one.median_seconds, one.longest_seconds)))
            for one in self.kinds()
        ]


def _kind_as_json(kind: Kind) -> dict[str, Any]:
    return {
        "kind": kind.kind,
        "times": kind.times,
        "lasted_seconds": round(kind.lasted_seconds, 1),
        "recovery_seconds": [None if one is None else round(one, 1) for one in kind.recovery_seconds],
    }


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _table(title: str, columns: Sequence[str], lines: Sequence[tuple[object, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for line in lines:
        table.add_row(*(str(cell) for cell in line))
    return table
