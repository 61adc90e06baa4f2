"""The stand-in's own time: what falls due is done in the order of time."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

MAX_DUE = 10_000  # of one walk; more is a circle


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """Something that happens at an instant; `order` says what comes first where several do."""

    at: int
    order: int
    act: Callable[[], None] = field(compare=False)


def next_due(sources: Iterable[Iterator[Due]], until: int) -> Due | None:
    """The earliest thing that falls due by then."""
    falling = [due for source in sources for due in source if due.at <= until]
    return min(falling, default=None)
