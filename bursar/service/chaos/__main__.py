"""Prove on this machine that nothing is lost and nothing doubled, whatever fails: real processes, RabbitMQ, PostgreSQL.

Signed webhooks are delivered to `bursar web` while processes are killed and stopped, servers restarted and killed, and
connections cut. Exit code 0: every accepted event took effect exactly once; 1: not so; 2: it could not run.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from bursar.billing.errors import BursarError
from bursar.service.chaos.load import Load, chaos_load, delivery_order
from bursar.service.chaos.report import Report
from bursar.service.chaos.run import Course, run_chaos
from bursar.service.servers import running_servers

NAME = "chaos"
LOGS = Path(".bursar") / "chaos-logs"
CANNOT_RUN = 2


def main() -> int:
    """Run, print, and say by the exit code how it ended."""
    options = _options()
    console = Console(stderr=True, highlight=False)
    try:
        load = chaos_load(options.users, options.events, options.seed)
    except ValueError as error:
        console.print(f"chaos: too few events for so many users: {error}", style="red", markup=False)
        return CANNOT_RUN
    try:
        report = _run(options, load, console)
    except (BursarError, ExceptionGroup) as error:
        console.print(f"chaos: {_sentence(error)}", style="red", markup=False)
        return CANNOT_RUN
    report.print_to(console)
    if report.faults:
        console.print(f"The logs of the processes are in {options.logs}.", markup=False)
    if options.json:
        sys.stdout.write(json.dumps(report.as_json(), indent=1) + "\n")
    return report.exit_code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bursar.service.chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--events", type=_positive, default=10_000, help="different events (10,000)")
    parser.add_argument("--users", type=_positive, default=500, help="whose they are (500)")
    parser.add_argument("--seconds", type=_positive, default=240, help="over which they are delivered (240)")
    parser.add_argument("--hours", type=int, default=20, help="of business time that pass meanwhile, each a tick (20)")
    parser.add_argument("--seed", type=int, default=1, help="chooses what happens to whom, and in which order (1)")
    parser.add_argument("--logs", type=Path, default=LOGS, help=f"folder for the logs of the processes ({LOGS})")
    parser.add_argument("--json", action="store_true", help="print the report on standard output, too")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _run(options: argparse.Namespace, load: Load, console: Console) -> Report:
    options.logs.mkdir(parents=True, exist_ok=True)
    for old in options.logs.glob("*.log"):
        old.unlink()
    course = Course(load, options.users, options.seconds, options.hours, options.seed, options.logs)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with running_servers(NAME, durable=False) as servers, Progress(*columns, console=console, transient=True) as bar:
        if servers.postgres is None:
            console.print("The servers of the environment are not restarted; unset DATABASE_URL and AMQP_URL for that.")
        task = bar.add_task("Deliveries", total=len(delivery_order(load.events, options.seed)))
        return asyncio.run(run_chaos(servers, course, lambda: bar.advance(task)))


def _sentence(error: Exception) -> str:
    """The first of a group that says in one sentence what to do; anything else is a defect, and shown whole."""
    if isinstance(error, ExceptionGroup):
        known, _ = error.split(BursarError)
        if known is None:
            raise error
        return _sentence(known.exceptions[0])
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
