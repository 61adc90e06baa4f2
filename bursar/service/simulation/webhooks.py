"""Stripe's events on their way to us: posted until they are answered, in any order, twice, or never."""

from dataclasses import dataclass, field

import orjson

from bursar.db.connections import Connection
from bursar.handlers.messages import HANDLED_STRIPE_TYPES, is_nobodys, resolve_accounts
from bursar.handlers.relay import relayed
from bursar.service.demo.lives import JsonObject
from bursar.service.simulation.process import Process

TRACEPARENT = f"00-{'1' * 32}-{'2' * 16}-01"


@dataclass(slots=True)
class Webhooks:
    """`waiting` are posted until they are answered; `dropped` never come by themselves."""

    waiting: list[JsonObject] = field(default_factory=list)
    answered: list[JsonObject] = field(default_factory=list)
    dropped: list[JsonObject] = field(default_factory=list)
    seen: list[JsonObject] = field(default_factory=list)
    _noticed: int = 0

    def notice(self, events: list[JsonObject]) -> None:
        """What happened at Stripe since the last look is to be posted."""
        new = [event for event in events[self._noticed :] if is_ours(event)]
        self.waiting += new
        self.seen += new
        self._noticed = len(events)

    def send_dropped_again(self, created_before: int) -> None:
        """What we did not find by ourselves in all that time is asked for by an operator."""
        self.waiting += [event for event in self.dropped if event["created"] < created_before]
        self.dropped = [event for event in self.dropped if event["created"] >= created_before]


def is_ours(event: JsonObject) -> bool:
    """Whether the relay would publish it."""
    return event["type"] in HANDLED_STRIPE_TYPES and not is_nobodys(event["type"], event)


async def relay(process: Process, event: JsonObject) -> None:
    """What the webhook's route does once the signature is verified; raises `Retryable` where it answers 503."""
    wanted = relayed(event)

    async def resolve(connection: Connection) -> str:
        return (await resolve_accounts(connection, {wanted.account}))[wanted.account]

    account = await process.decider.with_connection(resolve)
    await process.publisher.publish(wanted.message(account, orjson.dumps(event), TRACEPARENT))
