from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bursar.service.broker.sharing import share

workers = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=12)


@given(workers, st.integers(1, 64))
def test_partitions_are_shared_evenly_whatever_the_order(living: set[str], partitions: int) -> None:
    owners = share(living, partitions)
    loads = Counter(owners.values())
    assert set(owners) == set(range(partitions))
    assert max(loads.values()) - min(loads[worker] for worker in living) <= 1
    assert owners == share(sorted(living, reverse=True), partitions)


def test_two_share_32_in_halves() -> None:
    assert Counter(share(["a", "b"], 32).values()) == {"a": 16, "b": 16}


def test_a_newcomer_moves_little_more_than_its_part() -> None:
    before, after = share(["a", "b", "c"], 32), share(["a", "b", "c", "d"], 32)
    moved = sum(before[partition] != after[partition] for partition in range(32))
    assert moved <= 14


def test_nobody_shares_nothing() -> None:
    assert share([], 32) == {}
