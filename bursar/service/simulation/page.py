"""`docs/simulation.md`, made from the tables: `python -m bursar.service.simulation.page` writes it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bursar.service.simulation.actions import ACTIONS
from bursar.service.simulation.faults import FAULT_MEANS
from bursar.service.simulation.invariants import ALL_ALONG, AT_REST
from bursar.service.simulation.invariants.form import Invariant

PAGE = Path(__file__).parents[3] / "docs" / "simulation.md"
INTRODUCTION = """# The simulation

The service's first claim is that it loses nothing and charges nobody twice, whatever fails. `bursar simulate` lets
anybody check it: it plays months of the service's life in seconds, with faults, and looks all along whether the rules
hold.

```
make simulate                # 100 seeds; SEEDS=500 for more
bursar simulate --seeds 300  # likewise
bursar simulate --seed 17    # that seed alone
```

Seeds are played by several processes at once, one for each core and at most eight; `--jobs` says how many. They play
in databases of their own, made on the server that `DATABASE_URL` names, without one on a private server, and dropped
in the end: no database that somebody uses is touched, and no broker is needed. (Only `kill -9` leaves them behind:
their names begin with `bursar_simulate_`.) The exit code is 1 when something does not hold. `--json` prints the
figures.

`make test` plays 300 seeds: 280 of 30 steps, and 20 of 120, which are lives of many months. On a small machine one of
30 steps takes about 0.4 s of processor time, one of 120 steps 1.2 s, a third of it in Postgres.

## What is real and what is simulated

Real: decisions, handlers, sweeps, steps with their journals, lanes, retries, ticks, the Stripe gateway with Stripe's
SDK, all SQL, on a real Postgres. Two processes of it run in one event loop, one action after the other; where the
rules are about two at once, one of them is held before its commit while the other begins.

Simulated: both clocks, the broker, Stripe (the stateful stand-in of the tests, without HTTP), the instance API, the
mail provider, and the users. Not simulated: AMQP itself, HTTP, and the machine; for these there is `make chaos`.

The seed decides everything: each step draws from the seed and its own number, back-off and time-outs take no time,
and nothing else is by chance. The same seed gives the same decisions, steps, calls and final rows, whatever was played
before it and however many processes play: their digest is printed.

## When it fails

The first failure in the order of the seeds ends the run. It prints the invariant with its rule, what was found, the
last lines of the trace, and the command that plays it again. That command is the smallest that was found: fewest steps,
and `--without` the actions and faults that are not needed. A step that is left out changes nothing of what the others
draw, so the rest stays as it was. `--no-shrink` prints the first failure as it is.

That it can fail is tested, too: `tests/simulation/planted.py` lists bugs that people make, and a test plants each of
them in a copy of the code and expects the simulation to notice within 20 to 120 seeds. It takes many minutes
and is not part of `make test`: `pytest -m planted tests/simulation`.

## What may happen

Actions, by weight; a sixth of all steps are faults instead.

"""


def simulation_page() -> str:
    """The page as it should be."""
    parts = (
        INTRODUCTION,
        _table(("Action", "Weight"), ((f"`{one.name}`", str(one.weight)) for one in ACTIONS)),
        "\n",
        _table(("Fault", "What it means"), ((f"`{kind}`", means) for kind, means in FAULT_MEANS.items())),
        "\n## What must hold all along\n\n",
        _invariants(ALL_ALONG),
        "\n## What must hold at rest\n\nAt the end nothing fails any more, and time goes on until nothing is due.\n\n",
        _invariants(AT_REST),
    )
    return "".join(parts)


def _invariants(invariants: Sequence[Invariant]) -> str:
    return _table(("Rule", "Sentence"), ((one.rule, one.sentence) for one in invariants))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(simulation_page(), encoding="utf-8")
