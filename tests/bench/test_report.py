"""What the bench says of what it measured."""

from argparse import Namespace
from pathlib import Path

from bench.contenders import CONTENDERS, TURNS, turns
from bench.document import BEGIN, END, write_figures
from bench.events import made_events
from bench.report import Measured, report
from bench.rounds import Latency, Throughput

OPTIONS = Namespace(events=1_000, users=20_000, rounds=3, rate=300.0, only="", save=True)


def rounds(*rates: float, servers: float | None = 0.5) -> list[Throughput]:
    return [Throughput(rate, 1.0, servers, 80.0, 0.1) for rate in rates]


def measured() -> Measured:
    return Measured(
        {
            "bursar": rounds(2_900, 3_000, 3_300),
            "transaction_per_message": rounds(500, 500, 500),
            "by_hand": rounds(600, 1_000, 1_200),
            "celery": rounds(400, 400, 9_000),
            "drain": rounds(6_000, 6_000, 6_000, servers=None),
        },
        {"bursar": [Latency(10.0, 40.0)]},
        [],
    )


def test_ratios_are_of_medians_and_no_limit_nor_way_of_our_own_is_the_best_peer() -> None:
    told = report(measured(), OPTIONS)
    assert told["best_peer"] == "by_hand"
    assert told["ratios"] == {"best_peer": 3.0, "transaction_per_message": 6.0, "drain": 0.5}


def test_a_figure_that_could_not_be_measured_is_left_out() -> None:
    contenders = report(measured(), OPTIONS)["contenders"]
    assert "servers_cpu_seconds_per_thousand" not in contenders["drain"]["throughput"]
    assert contenders["bursar"]["throughput"]["servers_cpu_seconds_per_thousand"]["rounds"] == [0.5, 0.5, 0.5]
    assert contenders["celery"]["latency"] == {}


def test_the_page_keeps_what_stands_around_the_figures(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{BEGIN}old figures\n{END}after\n", encoding="utf-8")
    write_figures(page, report(measured(), OPTIONS))
    write_figures(page, report(measured(), OPTIONS))
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}Measured ")
    assert text.endswith(f"{END}after\n")
    assert text.count("| Bursar | 3,000 (2,900-3,300) |") == 1
    assert "old figures" not in text


def test_events_are_the_same_for_the_same_seed_and_no_two_have_one_id() -> None:
    first, again = (list(made_events(10, 50, seed=1)) for _ in range(2))
    assert first == again
    assert len({event.id for event in first}) == len({event.body for event in first}) == 50
    assert {event.account for event in first} <= {f"user:load-{number:05d}" for number in range(10)}


def test_the_quick_ones_take_their_turns_side_by_side_and_all_others_one() -> None:
    round_ = [contender.name for contender in turns(CONTENDERS)]
    quick = [one.name for one in CONTENDERS if one.is_quick]

    assert {name: round_.count(name) for name in round_} == {
        one.name: TURNS if one.is_quick else 1 for one in CONTENDERS
    }
    begins = [at for at, name in enumerate(round_) if name == quick[0]]
    assert [round_[at : at + len(quick)] for at in begins] == [quick] * TURNS


def test_without_a_quick_one_all_take_one_turn() -> None:
    others = [one for one in CONTENDERS if not one.is_quick]

    assert list(turns(others)) == others
