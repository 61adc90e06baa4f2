"""That the bench of many users fills the tables as they are, and that its events do what they are to cost."""

from argparse import Namespace

from bench.growth import MEASURED, SIZES, measure_all, report


async def test_every_round_of_both_sizes_is_measured(database_url: str) -> None:
    options = Namespace(small=40, large=300, batches=1, rounds=1)
    costs = await measure_all(database_url, options)
    assert all(len(costs[size]) == 1 for size in SIZES)
    assert all(one[0] > 0 for size in SIZES for one in costs[size])
    told = report(costs, options)
    assert told["users"] == {"small": 40, "large": 300}
    assert set(told["ratio"]) == set(MEASURED)
