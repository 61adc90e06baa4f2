"""What callers hold: two addresses, and a handle on each server for tests that take one away."""

from dataclasses import dataclass, field
from typing import Protocol


class ServerControl(Protocol):
    """Stops and starts one server, which keeps its port and its data. Blocking: from a coroutine, use a thread."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None:
        """Ends the server without a chance to tidy up.

        RabbitMQ 3.10 writes down a new quorum queue some seconds after declaring it: killed before, the queue has no
        leader for ever. Older queues keep every confirmed message.
        """


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers to use. The addresses carry passwords, so they are kept out of `repr`.

    `management_url` is RabbitMQ's HTTP API. The controls are None for servers of the environment, which are not ours.
    Where RabbitMQ was not wanted its addresses are empty.
    """

    database_url: str = field(repr=False)
    amqp_url: str = field(repr=False)
    management_url: str = field(repr=False)
    origin: str  # environment, docker or private
    postgres: ServerControl | None = None
    rabbitmq: ServerControl | None = None
