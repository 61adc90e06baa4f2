"""Values: dataclasses that nobody changes. The type checker sees to that, when it runs nothing does.

A `dataclass(frozen=True)` sets each field by a call and takes more than twice as long to make; a message makes some
forty values. docs/decisions, 0023.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

Value = TypeVar("Value")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def immutable(*, kw_only: bool = False, order: bool = False) -> Callable[[type[Value]], type[Value]]:
    """Make the class a dataclass with slots, equal and hashed by its fields, which no checked code may set."""
    return dataclass(slots=True, unsafe_hash=True, kw_only=kw_only, order=order)
