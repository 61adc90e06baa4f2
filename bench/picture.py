"""The picture of docs/benchmarks.md: a bar for each contender's median, a line for its spread."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from bench.contenders import BURSAR, CONTENDERS, MANY

WIDTH, BAR_HEIGHT, ROW_HEIGHT = 820, 20, 34
LABEL_WIDTH, FIGURE_WIDTH, TOP, BOTTOM = 290, 90, 56, 40
OURS, PEERS, LIMITS, INK, PAPER = "#1f6f4a", "#6b7f99", "#c9c2b4", "#1d1d1f", "#ffffff"


def write_picture(path: Path, told: Mapping[str, Any]) -> None:
    """Draw the events per second of a report."""
    rates = {name: one["throughput"]["events_per_second"] for name, one in told["contenders"].items()}
    most = max(rate["highest"] for rate in rates.values())
    height = TOP + ROW_HEIGHT * len(rates) + BOTTOM
    rows = [
        _row(number, told["contenders"][name]["title"], _colour(name), rate, most)
        for number, (name, rate) in enumerate(rates.items())
    ]
    options, cores = told["options"], told["machine"]["cores"]
    note = (
        f"{options['events']:,} events of {options['users']:,} users, {MANY} times as many for Bursar and the limits; "
        f"{options['rounds']} rounds in turn; {cores} cores, shared with the servers; line: lowest to highest"
    )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13" fill="{INK}">\n<title>Events per second, the same job for all</title>\n'
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>\n'
        f'<text x="16" y="30" font-size="17" font-weight="bold">Events per second, the same job for all</text>\n'
        + "".join(rows)
        + f'<text x="16" y="{height - 14}" font-size="10">{escape(note)}</text>\n</svg>\n',
        encoding="utf-8",
    )


def _row(number: int, title: str, colour: str, rate: Mapping[str, float], most: float) -> str:
    scale = (WIDTH - LABEL_WIDTH - FIGURE_WIDTH) / most
    y = TOP + ROW_HEIGHT * number
    middle, text_y = y + BAR_HEIGHT / 2, y + BAR_HEIGHT - 5
    low, high = (LABEL_WIDTH + rate[end] * scale for end in ("lowest", "highest"))
    return (
        f'<text x="{LABEL_WIDTH - 10}" y="{text_y}" text-anchor="end">{escape(title)}</text>\n'
        f'<rect x="{LABEL_WIDTH}" y="{y}" width="{rate["median"] * scale:.1f}" height="{BAR_HEIGHT}" '
        f'fill="{colour}"/>\n'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="{INK}" stroke-width="2"/>\n'
        f'<text x="{high + 8:.1f}" y="{text_y}">{rate["median"]:,.0f}</text>\n'
    )


def _colour(name: str) -> str:
    contender = next(one for one in CONTENDERS if one.name == name)
    if name == BURSAR:
        return OURS
    return LIMITS if contender.is_limit else PEERS
