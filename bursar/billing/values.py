"""Values: what decisions are made of, which nobody changes. Structs of msgspec: to make one costs a tenth of what a
dataclass costs, and a message makes some forty. docs/decisions, 0026.
"""

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, dataclass_transform
from uuid import UUID

from msgspec import Struct, field, to_builtins

if TYPE_CHECKING:
    from dataclasses import replace  # typed by the fields of what it is given, as msgspec's is not
else:
    from msgspec.structs import replace

KEPT = (bytes, date, datetime, timedelta, UUID)

__all__ = ["Value", "as_dict", "field", "replace"]


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value(Struct, frozen=True):
    """Equal and hashed by its fields, which cannot be set: `replace` makes another."""


def as_dict(value: Any) -> dict[str, Any]:  # noqa: ANN401 - a value or a dataclass
    """Its fields by name, and of all values and dataclasses within theirs. Enumerations become what they stand for;
    instants, UUIDs and bytes stay.
    """
    fields: dict[str, Any] = to_builtins(value, builtin_types=KEPT, enc_hook=dict)  # other mappings
    return fields
