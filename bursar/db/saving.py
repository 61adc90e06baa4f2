"""What the aggregates' save functions are given."""

from datetime import datetime
from typing import Generic, TypeVar

from bursar.billing.immutable import immutable

Part = TypeVar("Part")


@immutable()
class Change(Generic[Part]):
    """A part of one account before and after the batch."""

    key: str
    before: Part
    after: Part


@immutable()
class SaveContext:
    """The batch's instants, and the number of partitions for rows that store theirs."""

    now: datetime
    real_now: datetime
    partitions: int
