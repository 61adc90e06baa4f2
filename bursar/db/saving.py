"""What the aggregates' save functions are given."""

from datetime import datetime
from typing import Generic, TypeVar

from bursar.billing.values import Value

Part = TypeVar("Part")


class Change(Value, Generic[Part]):
    """A part of one account before and after the batch."""

    key: str
    before: Part
    after: Part


class SaveContext(Value):
    """The batch's instants, and the number of partitions for rows that store theirs."""

    now: datetime
    real_now: datetime
    partitions: int
