"""Accounts: whom the service serialises by, and the parts of them that a decision sees."""

import zlib
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Self, TypeVar

from bursar.billing.values import Value, field

USER_PREFIX = "user:"
CUSTOMER_PREFIX = "customer:"
PAYMENT_PREFIX = "payment:"
LOOKED_UP_PREFIXES = (CUSTOMER_PREFIX, PAYMENT_PREFIX)  # accounts whose user may be found in the database


def user_key(user_id: str) -> str:
    """The account key of a user."""
    return USER_PREFIX + user_id


def customer_key(stripe_customer_id: str) -> str:
    """The account key of a Stripe customer whose user is not known yet (KC-31)."""
    return CUSTOMER_PREFIX + stripe_customer_id


def payment_key(payment_id: str) -> str:
    """The account key of a payment whose user is not known yet (CR-11)."""
    return PAYMENT_PREFIX + payment_id


def user_id_of(key: str) -> str | None:
    """The user's id of a user's account key, else None."""
    return key.removeprefix(USER_PREFIX) if key.startswith(USER_PREFIX) else None


def partition_of(key: str, partitions: int) -> int:
    """The partition of an account: crc32 of its key, modulo the number of partitions."""
    return zlib.crc32(key.encode()) % partitions


class Tracked(Value):
    """A part whose rows are written to the change log (KC-4)."""

    def rows(self) -> Mapping[tuple[str, str], Any]:
        """(table, row id) → value, for each row of the part. Each kind of part has its own."""
        raise NotImplementedError


Part = TypeVar("Part")


class Account(Value):
    """One account under its lock: its key and the parts that the message asked for."""

    key: str
    parts: Mapping[type[Any], Any] = field(default_factory=lambda: MappingProxyType({}))

    def part(self, kind: type[Part]) -> Part:
        """The part of that kind; KeyError when the message did not ask for it (a bug)."""
        part: Part = self.parts[kind]
        return part

    def having(self, part: object) -> Self:
        """The account with that part in place of the one of its kind."""
        return type(self)(self.key, {**self.parts, type(part): part})


class Profile(Value):
    """What the product told us about a user (`users`); `email` is None until it did."""

    user_id: str
    email: str | None = None
    name: str | None = None
    stripe_customer_id: str | None = None
    auto_top_up: bool = False
    deleted_at: datetime | None = None
