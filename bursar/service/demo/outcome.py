"""What a run of the demo came to, as values, as tables and as JSON."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from bursar.billing.values import Value
from bursar.service.demo.expectations import RowView
from bursar.service.demo.replay import ReplayFigures
from bursar.service.demo.verdict import Verdict

FAULTS_SHOWN = 20


class Outcome(Value):
    """`at_stripe` and `found` are rows right after the replay; `seconds` lasts from the first webhook until quiet."""

    lives: int
    events: int
    replayed: ReplayFigures
    seconds: float
    handled: int
    duplicates_dropped: int
    at_stripe: Mapping[str, RowView]
    found: Mapping[str, RowView]
    mails_by_type: Mapping[str, int]
    calls: Mapping[str, Any]
    parked: Mapping[str, int]
    days_walked: int
    verdict: Verdict

    @property
    def exit_code(self) -> int:
        return self.verdict.exit_code

    @property
    def events_per_second(self) -> float:
        """Webhooks taken a second, end to end."""
        return sum(self.replayed.accepted.values()) / max(self.seconds, 1e-9)

    @property
    def left_alone(self) -> int:
        """Webhooks taken that are of a type or a product that is not ours."""
        return sum(self.replayed.accepted.values()) - self.handled - self.duplicates_dropped

    def as_json(self) -> dict[str, Any]:
        """Everything printed, for a program to read."""
        return {
            "lives": self.lives,
            "events": {
                "different": self.events,
                "sent": self.replayed.sent,
                "sent_twice": self.replayed.duplicates_sent,
                "retries": self.replayed.retries,
                "answers": {str(status): count for status, count in sorted(self.replayed.answers.items())},
                "handled": self.handled,
                "duplicates_dropped": self.duplicates_dropped,
                "left_alone": self.left_alone,
                "seconds": round(self.seconds, 3),
                "per_second": round(self.events_per_second, 1),
            },
            "rows": [
                {"plan": plan, "status": status, "found": found, "at_stripe": at_stripe}
                for plan, status, found, at_stripe in self._rows_beside_stripe()
            ],
            "mails_by_type": dict(self.mails_by_type),
            "instance_calls": {name: self.calls[name] for name in ("operations", "answers", "states", "repeated")},
            "parked": dict(self.parked),
            "days_walked": self.days_walked,
            "verdict": {"ok": not self.exit_code, "sentence": self.verdict.sentence, "faults": self.verdict.faults},
        }

    def print_to(self, console: Console) -> None:
        """Tables and the verdict."""
        console.print(_table("Webhooks", ("what", "count"), self._webhook_lines()))
        console.print(
            _table("Rows after the replay", ("plan", "status", "rows", "at Stripe"), self._rows_beside_stripe())
        )
        console.print(
            _table(f"Mails in {self.days_walked} days", ("type", "count"), sorted(self.mails_by_type.items()))
        )
        console.print(_table("Instance API", ("what", "count"), self._call_lines()))
        colour = "red" if self.exit_code else "green"
        for fault in self.verdict.faults[:FAULTS_SHOWN]:
            console.print(f"  {fault}", style=colour, markup=False, highlight=False)
        console.print(f"Verdict: {self.verdict.sentence}", style=f"bold {colour}", markup=False, highlight=False)

    def _webhook_lines(self) -> list[tuple[str, object]]:
        return [
            ("lives", self.lives),
            ("events in", self.replayed.sent),
            ("of these sent twice", self.replayed.duplicates_sent),
            ("handled messages", self.handled),
            ("duplicates dropped", self.duplicates_dropped),
            ("not ours, left alone", self.left_alone),
            ("parked messages", sum(self.parked.values())),
            ("seconds until quiet", f"{self.seconds:.1f}"),
            ("events a second", f"{self.events_per_second:.0f}"),
        ]

    def _rows_beside_stripe(self) -> list[tuple[str, str, int, int]]:
        found, at_stripe = _by_plan_and_status(self.found), _by_plan_and_status(self.at_stripe)
        keys = sorted(found.keys() | at_stripe.keys())
        return [(plan, status, found[plan, status], at_stripe[plan, status]) for plan, status in keys]

    def _call_lines(self) -> list[tuple[str, int]]:
        counted = [*self.calls["operations"].items(), *self.calls["states"].items()]
        return [*sorted(counted), ("calls repeated", self.calls["repeated"])]


def _by_plan_and_status(rows: Mapping[str, RowView]) -> Counter[tuple[str, str]]:
    return Counter((row.plan, row.status) for row in rows.values())


def _table(title: str, columns: Iterable[str], lines: Iterable[Iterable[object]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or column == "status" else "right")
    for line in lines:
        table.add_row(*(str(cell) for cell in line))
    return table
