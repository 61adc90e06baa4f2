"""What the aggregates' save functions are given."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Change(Generic[Part]):
    """A part of one account before and after the batch."""

    key: str
    before: Part
    after: Part


@dataclass(frozen=True, slots=True)
class SaveContext:
    """The batch's instants, and the number of partitions for rows that store theirs."""

    now: datetime
    real_now: datetime
    partitions: int
