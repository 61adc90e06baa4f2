"""Why an account stands as it does: from event or tick to decision, changed rows, steps and mails, in time order."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from bursar.billing.account import user_key
from bursar.db.chain import FollowedStep, SetAside, newest_set_aside, newest_steps
from bursar.db.connections import Connection
from bursar.db.history import HistoryEntry, page_of_history


@dataclass(slots=True)
class Link:
    """All that one message, command, tick or outcome caused. `at` is business time where a rule decided."""

    at: datetime
    cause: str
    changes: list[HistoryEntry] = field(default_factory=list)
    steps: list[FollowedStep] = field(default_factory=list)
    set_aside: SetAside | None = None


async def chain_of(connection: Connection, user_id: str, limit: int) -> list[Link]:
    """The newest links of a user, oldest first, of at most `limit` changes, steps and waiting messages each.

    Where there is more, the links begin where all three are whole.
    """
    key = user_key(user_id)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        changes = await page_of_history(connection, key, None, limit)
        steps = await newest_steps(connection, key, limit)
        waiting = await newest_set_aside(connection, key, limit)
    cut = [
        oldest
        for found, oldest in (
            (changes, changes[-1].decided_at if changes else None),
            (steps, steps[-1].at if steps else None),
            (waiting, waiting[-1].at if waiting else None),
        )
        if oldest and len(found) == limit
    ]
    links = _links(changes[::-1], steps[::-1], waiting[::-1])
    return [link for link in links if not cut or link.at >= max(cut)]


def _links(changes: Iterable[HistoryEntry], steps: Iterable[FollowedStep], waiting: Iterable[SetAside]) -> list[Link]:
    """Changes and steps of the same cause are one link; a stable sort keeps the order in which they were decided."""
    links: dict[str, Link] = {}
    for change in changes:
        links.setdefault(change.cause, Link(change.decided_at, change.cause)).changes.append(change)
    for step in steps:
        links.setdefault(step.cause, Link(step.at, step.cause)).steps.append(step)
    alone = [Link(one.at, one.message_id, set_aside=one) for one in waiting]
    return sorted([*links.values(), *alone], key=lambda link: link.at)
