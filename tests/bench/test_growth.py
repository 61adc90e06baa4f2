"""That the bench of many users fills the tables as they are, and that its events do what they are to cost."""

from argparse import Namespace

from bench.growth import MEASURED, SIZES, WAYS, measure_all, report


async def test_every_round_of_both_sizes_is_measured(database_url: str) -> None:
    sizes = {"small": 330, "large": 700, "small_payments": 1, "large_payments": 3}
    options = Namespace(**sizes, batches=1, rounds=1, warm_up_rounds=1)
    measured = await measure_all(database_url, options)
    rounds = [measured.costs[way][size] for way in WAYS for size in SIZES]
    assert all(len(one) == 1 and one[0][0] > 0 for one in rounds)
    told = report(measured, options)
    assert told["users"] == {"small": 330, "large": 700}
    assert all(set(told["ratio"][way]) == set(MEASURED) for way in WAYS)
    assert all(told["database_mb"][size] > 0 for size in SIZES)
