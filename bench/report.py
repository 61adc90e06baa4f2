"""What was measured, as figures, ratios and a table."""

import argparse
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.contenders import BURSAR, CONTENDERS, DRAIN, MANY, PER_MESSAGE, TURNS
from bench.relay import RelayRound
from bench.rounds import Latency, Throughput
from bursar.billing.values import Value


class Measured(Value):
    """By contender, a figure a round; latencies only where PostgreSQL dates its commits."""

    throughput: Mapping[str, Sequence[Throughput]]
    latency: Mapping[str, Sequence[Latency]]
    relay: Sequence[RelayRound]


def report(measured: Measured, options: argparse.Namespace) -> dict[str, Any]:
    """Every figure. `ratios` are Bursar's events per second divided by each's; `best_peer` names no limit."""
    titles = {contender.name: contender.title for contender in CONTENDERS}
    contenders: dict[str, dict[str, Any]] = {
        name: {
            "title": titles[name],
            "throughput": _figures(rounds),
            "latency": _figures(measured.latency.get(name, ())),
        }
        for name, rounds in measured.throughput.items()
    }
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "options": {name: value for name, value in vars(options).items() if name not in ("only", "save")},
        "contenders": contenders,
        "relay": _figures(measured.relay),
        **_ratios({name: one["throughput"]["events_per_second"]["median"] for name, one in contenders.items()}),
    }


def _figures(rounds: Sequence[Any]) -> dict[str, Any]:
    """Of each field: the median, the lowest, the highest, and all; nothing of a field that nobody could measure."""
    if not rounds:
        return {}
    by_field = {name: [getattr(one, name) for one in rounds] for name in rounds[0].__struct_fields__}
    return {name: _spread(values) for name, values in by_field.items() if None not in values}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": round(median(values), 3),
        "lowest": round(min(values), 3),
        "highest": round(max(values), 3),
        "rounds": [round(value, 3) for value in values],
    }


def _ratios(rates: Mapping[str, float]) -> dict[str, Any]:
    """Nothing where Bursar was not among them."""
    if BURSAR not in rates:
        return {}
    to_each = {name: round(rates[BURSAR] / rate, 2) for name, rate in rates.items() if name != BURSAR}
    peers = [one.name for one in CONTENDERS if one.is_peer and one.name in rates]
    best = max(peers, key=lambda name: rates[name], default=None)
    ratios = {
        "best_peer": to_each.get(best or ""),
        "transaction_per_message": to_each.get(PER_MESSAGE),
        "drain": to_each.get(DRAIN),
    }
    return {"ratios": ratios, "best_peer": best, "bursar_divided_by": to_each}


def print_report(console: Console, told: Mapping[str, Any]) -> None:
    """The tables on the terminal."""
    console.print(_speed_table(told))
    console.print(_cost_table(told))
    if told["relay"]:
        console.print(_relay_table(told["relay"], told["options"]["rate"]))


def _speed_table(told: Mapping[str, Any]) -> Table:
    options = told["options"]
    table = _titled(
        f"{options['events']:,} events (Bursar and the limits: {MANY} times, {TURNS} turns) of {options['users']:,} "
        f"users, {options['rounds']} rounds",
        *("events/s", "lowest", "highest", "Bursar is"),
    )
    for name, one in told["contenders"].items():
        rates, ratio = one["throughput"]["events_per_second"], told.get("bursar_divided_by", {}).get(name)
        figures = (f"{rates[which]:,.0f}" for which in ("median", "lowest", "highest"))
        table.add_row(one["title"], *figures, f"{ratio:.2f} x" if ratio else "")
    return table


def _cost_table(told: Mapping[str, Any]) -> Table:
    rate = told["options"]["rate"]
    table = _titled(f"Latency at {rate:.0f}/s; cost", *("p50 ms", "p99 ms", "CPU s", "servers'", "MB"))
    table.caption = "CPU seconds per thousand events; memory at its highest"
    for one in told["contenders"].values():
        late, spent = one["latency"], one["throughput"]
        table.add_row(
            one["title"],
            _median(late, "p50_ms", 1),
            _median(late, "p99_ms", 1),
            _median(spent, "cpu_seconds_per_thousand", 2),
            _median(spent, "servers_cpu_seconds_per_thousand", 2),
            _median(spent, "memory_mb", 0),
        )
    return table


def _relay_table(relay: Mapping[str, Any], rate: float) -> Table:
    table = _titled(
        "The webhook relay, 32 requests at once, then evenly",
        *("requests/s", "p99 ms then", f"p50 ms at {rate:.0f}/s", f"p99 ms at {rate:.0f}/s"),
    )
    for kind, title in (("relay", "webhooks over HTTP"), ("publish", "a bare publish")):
        names = (f"{kind}_per_second", f"{kind}_full_p99_ms", f"{kind}_paced_p50_ms", f"{kind}_paced_p99_ms")
        table.add_row(title, *(_median(relay, name, 1) for name in names))
    return table


def _titled(title: str, *columns: str) -> Table:
    table = Table("", title=title)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _median(figures: Mapping[str, Any], name: str, digits: int) -> str:
    return f"{figures[name]['median']:,.{digits}f}" if name in figures else "-"
