"""Bursar beside its peers and two limits, in turn, on the same servers and the same events; then the webhook relay.

One round fills a contender's queue, starts its worker, and takes the time from the first delivery to the last commit.
Then each is sent events at a steady rate: how late is the commit? Servers, workers and the bench share this machine.
"""

import argparse
import asyncio
import json
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console

from bench.contenders import BURSAR, CONTENDERS, MANY, PEERS_PYTHON, TURNS, Contender, turns
from bench.document import write_figures
from bench.events import made_events, write_events
from bench.picture import write_picture
from bench.processes import ProcessFailed
from bench.relay import RelayRound, relay_rounds
from bench.report import Measured, print_report, report
from bench.rounds import Latency, Place, Throughput, latency, throughput
from bench.rows import template
from bursar.db.connections import RANDOM_PAGE_COST
from bursar.service.servers import Servers, running_servers

ROOT, INSTANCE = Path(".bursar"), "bench"
FOLDER = ROOT.resolve() / INSTANCE
RESULTS = Path(__file__).parent / "results" / "latest.json"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PICTURE = PAGE.with_suffix(".svg")
WARM_UP_EVENTS = 300

console = Console()


def main() -> None:
    """Measure, print the table, write results and picture."""
    options = _options()
    if not PEERS_PYTHON.exists():
        raise SystemExit("The peers are not installed; `make bench` does that.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is ended
    with running_servers(INSTANCE, durable=True, root=ROOT) as servers:
        if servers.postgres:
            asyncio.run(_know_the_disk(servers.database_url))
        can_date = _dating_commits(servers)
        measured = asyncio.run(_measure(servers, options, can_date=can_date))
    print_report(console, _kept(measured, options))


def _kept(measured: Measured, options: argparse.Namespace) -> dict[str, Any]:
    """The report; written, too, unless it is only to be printed. Called after each part: a run may be cut short."""
    told = report(measured, options)
    if options.save:
        RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        write_picture(PICTURE, told)
        write_figures(PAGE, told)
        console.print(f"Written: {RESULTS}, {PAGE} and its picture")
    return told


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--events",
        type=int,
        default=4_000,
        help=f"in each contender's queue, each round; {MANY} times as many in Bursar's",
    )
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument(
        "--rounds", type=int, default=3, help=f"of all in turn; Bursar and the limits take {TURNS} turns of each"
    )
    parser.add_argument("--warm-up-rounds", type=int, default=1, help="before them, which do not count")
    parser.add_argument(
        "--latency-rounds", type=int, default=3, help=f"of all at a steady rate; {TURNS} times as many of the relay"
    )
    parser.add_argument("--rate", type=float, default=300.0, help="events a second of the steady rounds")
    parser.add_argument("--pace-seconds", type=float, default=15.0, help="of each steady round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="these contenders, comma-separated: " + ", ".join(_names()))
    parser.add_argument("--no-save", dest="save", action="store_false", help="print only")
    options = parser.parse_args()
    if unknown := set(filter(None, options.only.split(","))) - set(_names()):
        parser.error(f"no such contender: {', '.join(sorted(unknown))}")
    return options


def _names() -> list[str]:
    return [contender.name for contender in CONTENDERS]


async def _know_the_disk(database_url: str) -> None:
    """What Bursar's sessions say of themselves, for all contenders: how much a probe of an index costs."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"ALTER SYSTEM SET random_page_cost = {RANDOM_PAGE_COST}")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


def _dating_commits(servers: Servers) -> bool:
    """Have PostgreSQL keep when each transaction was committed, where it is ours to restart; whether it does."""
    if asyncio.run(_is_dating(servers.database_url)):
        return True
    if servers.postgres is None:
        console.print("No latencies: this PostgreSQL runs with track_commit_timestamp = off.")
        return False
    asyncio.run(_date(servers.database_url))
    servers.postgres.stop()
    servers.postgres.start()
    return asyncio.run(_is_dating(servers.database_url))


async def _is_dating(database_url: str) -> bool:
    connection = await asyncpg.connect(database_url)
    setting: str = await connection.fetchval("SHOW track_commit_timestamp")
    await connection.close()
    return setting == "on"


async def _date(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    await connection.close()


async def _measure(servers: Servers, options: argparse.Namespace, *, can_date: bool) -> Measured:
    chosen = [one for one in CONTENDERS if not options.only or one.name in options.only.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        async with template(servers.database_url, options.users) as template_name:
            servers_folder = FOLDER if servers.origin == "private" else None
            place = Place(servers.database_url, servers.amqp_url, template_name, Path(folder), servers_folder)
            try:
                rates = await _throughputs(chosen, place, options)
                _kept(Measured(rates, {}, []), options)
                late = await _latencies(chosen, place, options) if can_date else {}
                _kept(Measured(rates, late, []), options)
                relayed = await _relayed(place, options)
            except ProcessFailed as error:
                raise SystemExit(f"{error}\n{_last_of(place.log)}") from None
    return Measured(rates, late, relayed)


async def _throughputs(
    chosen: Sequence[Contender], place: Place, options: argparse.Namespace
) -> dict[str, list[Throughput]]:
    """In turn, so that a machine that becomes slower is slower for all; the first rounds warm it up."""
    measured: dict[str, list[Throughput]] = {contender.name: [] for contender in chosen}
    files = {count: place.folder / f"{count}_events.jsonl" for count in {_events_of(one, options) for one in chosen}}
    for count, events in files.items():
        write_events(events, made_events(options.users, count, options.seed))
    for number in range(1 - options.warm_up_rounds, options.rounds + 1):
        for contender in turns(chosen):
            count = _events_of(contender, options)
            one = await throughput(contender, place, files[count], count)
            measured[contender.name] += [one] if number > 0 else []
            console.print(f"round {number}, {contender.title}: {one.events_per_second:,.0f} events/s")
    return measured


def _events_of(contender: Contender, options: argparse.Namespace) -> int:
    made: int = options.events * (MANY if contender.is_quick else 1)
    return made


async def _latencies(
    chosen: Sequence[Contender], place: Place, options: argparse.Namespace
) -> dict[str, list[Latency]]:
    paced = [contender for contender in chosen if not contender.is_limit]
    measured: dict[str, list[Latency]] = {contender.name: [] for contender in paced}
    count = int(options.rate * options.pace_seconds)
    made = list(made_events(options.users, WARM_UP_EVENTS + count, options.seed))
    warm_up, events = place.folder / "warm_up.jsonl", place.folder / "paced.jsonl"
    write_events(warm_up, iter(made[:WARM_UP_EVENTS]))
    write_events(events, iter(made[WARM_UP_EVENTS:]))
    for number in range(options.latency_rounds):
        for contender in paced:
            try:
                one = await latency(contender, place, warm_up, events, options.rate)
            except ProcessFailed as error:  # who cannot keep up may give up, too; the others are measured all the same
                console.print(f"round {number + 1}, {contender.title}: no latency: {error}")
                continue
            measured[contender.name].append(one)
            console.print(
                f"round {number + 1}, {contender.title}: p50 {one.p50_ms:,.1f} ms, p99 {one.p99_ms:,.1f} ms"
                f" at {options.rate:.0f} events/s"
            )
    return measured


async def _relayed(place: Place, options: argparse.Namespace) -> list[RelayRound]:
    if options.only and BURSAR not in options.only.split(","):
        return []
    events = list(made_events(options.users, min(options.events, 5_000), options.seed))
    # The longest of a few seconds' waits are as long as the disk's worst moment: more rounds, each in another one.
    return await relay_rounds(place, events, _tell_relayed, rounds=TURNS * options.latency_rounds, rate=options.rate)


def _tell_relayed(one: RelayRound) -> None:
    console.print(
        f"the relay: {one.relay_per_second:,.0f} requests/s, p99 {one.relay_full_p99_ms:,.1f} ms then, "
        f"{one.relay_paced_p99_ms:,.1f} ms at a steady rate; a bare publish {one.publish_per_second:,.0f}, "
        f"{one.publish_full_p99_ms:,.1f} and {one.publish_paced_p99_ms:,.1f} ms"
    )


def _last_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:]) if log.exists() else ""


if __name__ == "__main__":
    main()
