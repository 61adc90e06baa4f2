"""The figures in docs/benchmarks.md, between two marks: what the page says is what was measured last."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.contenders import MANY, TURNS

BEGIN, END = "<!-- figures: written by make bench -->\n", "<!-- end of figures -->\n"


def write_figures(path: Path, told: Mapping[str, Any]) -> None:
    """Replace what stands between the marks."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}{_figures(told)}{END}{after}", encoding="utf-8")


def _figures(told: Mapping[str, Any]) -> str:
    options, cores = told["options"], told["machine"]["cores"]
    count, users, rounds = options["events"], options["users"], options["rounds"]
    measured = (
        f"Measured {told['measured_at'][:10]} on {cores} cores: {count:,} events of {users:,} users a round, {MANY} "
        f"times as many for Bursar and the limits, {rounds} rounds, in which these take {TURNS} turns each; medians, "
        "lowest and highest in parentheses."
    )
    lines = [
        measured,
        "",
        f"| | events/s | Bursar is | p50 / p99 ms at {options['rate']:.0f}/s | CPU s | servers' CPU s | memory MB |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(_row(name, one, told) for name, one in told["contenders"].items()),
        "",
    ]
    if told["relay"]:
        lines += _relay(told["relay"], options["rate"])
    return "\n".join(lines) + "\n"


def _row(name: str, one: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    measured, late = one["throughput"], one["latency"]
    rate, ratio = measured["events_per_second"], told.get("bursar_divided_by", {}).get(name)
    spread = f"{rate['median']:,.0f} ({rate['lowest']:,.0f}-{rate['highest']:,.0f})"
    latency = f"{late['p50_ms']['median']:,.0f} / {late['p99_ms']['median']:,.0f}" if late else ""
    cells = (
        one["title"],
        spread,
        f"{ratio:.2f} times as fast" if ratio else "",
        latency,
        f"{measured['cpu_seconds_per_thousand']['median']:.2f}",
        _of(measured, "servers_cpu_seconds_per_thousand"),
        f"{measured['memory_mb']['median']:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _of(figures: Mapping[str, Any], name: str) -> str:
    return f"{figures[name]['median']:.2f}" if name in figures else ""


def _relay(relay: Mapping[str, Any], rate: float) -> list[str]:
    rows = [
        f"| {title} | {relay[f'{kind}_per_second']['median']:,.0f} | {relay[f'{kind}_full_p99_ms']['median']:,.0f} | "
        f"{relay[f'{kind}_paced_p50_ms']['median']:,.1f} / {relay[f'{kind}_paced_p99_ms']['median']:,.1f} |"
        for kind, title in (("relay", "`POST /webhooks/stripe`"), ("publish", "publish, confirmed"))
    ]
    head = f"| the relay | requests/s, 32 at once | p99 ms then | p50 / p99 ms at {rate:.0f}/s |"
    return [head, "|---|--:|--:|--:|", *rows, ""]
