import pytest

from bursar.service.simulation.faults import FAULTS, FaultKind
from bursar.service.simulation.invariants import every_invariant
from tests.simulation.playing import simulated

pytestmark = pytest.mark.lengthy

# Two minutes on two cores for all of them: many short lives, and some of many months.
SEEDS_BY_STEPS = {30: 280, 120: 20}


@pytest.mark.timeout(600)  # a machine with other work takes longer
@pytest.mark.parametrize("steps", SEEDS_BY_STEPS)
def test_nothing_is_lost_and_nothing_done_twice_whatever_fails(database_url: str, steps: int) -> None:
    """Two processes, as the other tests run beside."""
    seeds = SEEDS_BY_STEPS[steps]
    told = simulated(database_url, "--seeds", f"{seeds}", "--steps", f"{steps}", "--jobs", "2")

    assert told["failure"] is None
    assert (told["seeds"], told["jobs"]) == (seeds, 2)
    assert len(told["checked"]) == len({f"{one.rule} {one.sentence}" for one in every_invariant()})


def test_a_seed_decides_everything_in_any_process(database_url: str) -> None:
    alone = simulated(database_url, "--seeds", "6", "--seed", "7", "--jobs", "1")
    beside = simulated(database_url, "--seeds", "6", "--seed", "7", "--jobs", "3")

    assert alone["digests"] == beside["digests"]
    assert len(set(alone["digests"].values())) == 6


def test_every_kind_of_fault_can_be_armed() -> None:
    assert set(FAULTS) == set(FaultKind)
    assert len(FAULTS) >= 12


def test_at_least_twenty_invariants_name_their_rule() -> None:
    assert len(every_invariant()) >= 20
    assert all(one.rule.split("-")[0] in {"KC", "CR", "MS"} for one in every_invariant())
