"""Calendar months as Stripe counts them: from the anchor, whose day is kept and clamped to the month's end."""

from datetime import UTC, datetime

from dateutil.relativedelta import relativedelta

from bursar.service.demo.lives import JsonObject

MAX_PERIODS = 2_400


def later(start: int, interval: str, count: int) -> int:
    """So many days, weeks, months or years later, in Unix seconds."""
    begin = datetime.fromtimestamp(start, UTC)
    # The stubs know relativedelta's arguments only one by one.
    span = {
        "day": relativedelta(days=count),
        "week": relativedelta(weeks=count),
        "month": relativedelta(months=count),
        "year": relativedelta(years=count),
    }[interval]
    return int((begin + span).timestamp())


def next_boundary(anchor: int, recurring: JsonObject, after: int) -> int:
    """The first boundary later than `after`, counted from the anchor."""
    for periods in range(1, MAX_PERIODS):
        boundary = later(anchor, recurring["interval"], periods * recurring["interval_count"])
        if boundary > after:
            return boundary
    raise AssertionError("an anchor so far back is a mistake of the test")
