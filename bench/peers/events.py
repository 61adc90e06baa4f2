"""Events as a contender's process gets them: no Bursar here, peers are installed without it."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Event:
    """A webhook that was received. `account` is `user:{id}`; the body is Stripe's."""

    id: str
    account: str
    body: bytes


def read_events(path: Path) -> list[Event]:
    """What `bench.events.write_events` wrote."""
    with path.open("rb") as file:
        return [Event(id_, account, base64.b64decode(body)) for id_, account, body in map(json.loads, file)]
