"""Why an account stands as it does: from event or tick to decision, changed rows, entries, steps and mails, in time
order.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from bursar.billing.account import user_key
from bursar.billing.values import Value
from bursar.db import credits as ledger
from bursar.db.chain import FollowedStep, SetAside, newest_set_aside, newest_steps
from bursar.db.connections import Connection
from bursar.db.credits import PostedEntry
from bursar.db.history import HistoryEntry, page_of_history


class Booking(Value):
    """An entry of the ledger, and the balance that it left."""

    entry: PostedEntry
    balance_microdollars: int


@dataclass(slots=True)
class Link:
    """All that one message, command, tick or outcome caused. `at` is business time where a rule decided."""

    at: datetime
    cause: str
    changes: list[HistoryEntry] = field(default_factory=list)
    bookings: list[Booking] = field(default_factory=list)
    steps: list[FollowedStep] = field(default_factory=list)
    set_aside: SetAside | None = None


async def chain_of(connection: Connection, user_id: str, limit: int) -> list[Link]:
    """The newest links of a user, oldest first, of at most `limit` changes, entries, steps and waiting messages each.

    Where there is more, the links begin where all four are whole.
    """
    key = user_key(user_id)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        changes = await page_of_history(connection, key, None, limit)
        bookings = await _newest_bookings(connection, user_id, limit)
        steps = await newest_steps(connection, key, limit)
        waiting = await newest_set_aside(connection, key, limit)
    cut = [
        oldest
        for found, oldest in (
            (changes, changes[-1].decided_at if changes else None),
            (bookings, bookings[-1].entry.created_at if bookings else None),
            (steps, steps[-1].at if steps else None),
            (waiting, waiting[-1].at if waiting else None),
        )
        if oldest and len(found) == limit
    ]
    links = _links(changes[::-1], bookings[::-1], steps[::-1], waiting[::-1])
    return [link for link in links if not cut or link.at >= max(cut)]


async def _newest_bookings(connection: Connection, user_id: str, limit: int) -> list[Booking]:
    """At most `limit` entries, newest first, each with the balance that it left: today's, less what came after it."""
    balance = (await ledger.statement(connection, user_id)).balance_microdollars
    bookings = []
    for entry in await ledger.page_of_entries(connection, user_id, None, limit):
        bookings.append(Booking(entry, balance))
        balance -= entry.amount_microdollars
    return bookings


def _links(
    changes: Iterable[HistoryEntry],
    bookings: Iterable[Booking],
    steps: Iterable[FollowedStep],
    waiting: Iterable[SetAside],
) -> list[Link]:
    """What has the same cause is one link; a stable sort keeps the order in which they were decided."""
    links: dict[str, Link] = {}
    for change in changes:
        links.setdefault(change.cause, Link(change.decided_at, change.cause)).changes.append(change)
    for booking in bookings:
        _link_of(booking.entry, links).bookings.append(booking)
    for step in steps:
        links.setdefault(step.cause, Link(step.at, step.cause)).steps.append(step)
    alone = [Link(one.at, one.message_id, set_aside=one) for one in waiting]
    return sorted([*links.values(), *alone], key=lambda link: link.at)


def _link_of(entry: PostedEntry, links: dict[str, Link]) -> Link:
    """The link that the entry belongs to. An entry may outlive its user, so its cause ends before their name: it is the
    beginning of a link's, and of several at that instant the entries take one each, in order.
    """
    begun = [
        one for one in links.values() if one.at == entry.created_at and f"{one.cause}:".startswith(f"{entry.cause}:")
    ]
    if begun:
        return next((one for one in begun if not one.bookings), begun[-1])
    return links.setdefault(entry.cause, Link(entry.created_at, entry.cause))
