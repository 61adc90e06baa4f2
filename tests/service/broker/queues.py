"""Looking into queues. `basic.get` is not for queues with a single active consumer, so these consume."""

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from bursar.handlers.messages import ReceivedMessage

Channel = aio_pika.abc.AbstractChannel


async def taken(channel: Channel, queue_name: str) -> AbstractIncomingMessage:
    """The next message of the queue, not acknowledged."""
    queue = await channel.get_queue(queue_name)
    async with queue.iterator(timeout=10) as messages:
        return await anext(messages)


async def waiting(channel: Channel, queue_name: str) -> int:
    """How many messages are ready."""
    queue = await channel.declare_queue(queue_name, passive=True)
    count = queue.declaration_result.message_count
    assert count is not None
    return count


def stripe_message(number: int, account: str = "user:u1", body: bytes | None = None) -> ReceivedMessage:
    return ReceivedMessage(f"evt_{number}", "stripe.invoice.paid", account, body or b"%d" % number)
