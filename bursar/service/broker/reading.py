"""From what the broker delivers to items: whose a message is, what it says, and what if it says nothing."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from bursar.billing.account import LOOKED_UP_PREFIXES, USER_PREFIX
from bursar.billing.errors import UnreadableMessage
from bursar.billing.values import Value, replace
from bursar.db.connections import Connection
from bursar.db.items import Item, MessageCopy
from bursar.db.parked import FailedMessage, ParkedMessage
from bursar.handlers.messages import ReceivedMessage, resolve_accounts
from bursar.service.broker.properties import MessageHeader

MAX_KEY_CHARACTERS = 255  # of ids and account keys: an index entry has its limit
NUL = "\x00"  # which Postgres cannot store

Result = TypeVar("Result")
Decode = Callable[[ReceivedMessage, str], Item]  # (message, account key); UnreadableMessage when it cannot be read


class Database(Protocol):
    """Where connections come from; raises DatabaseUnavailable."""

    async def with_connection(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Do `work` with a connection."""
        ...


class Read(Value):
    """What became of some messages: items to decide, and those to be written down instead (MS-6)."""

    items: list[Item]
    failed: list[FailedMessage]


def received(header: MessageHeader, body: bytes) -> ReceivedMessage:
    """The message of a delivery; whatever is missing is empty, `sound` complains about it."""
    headers = header.headers
    return ReceivedMessage(
        header.message_id,
        header.message_type,
        _text(headers.get("account")) or "",
        body,
        _instant(headers.get("occurred_at")),
        _text(headers.get("traceparent")),
        headers,
    )


def received_again(message: ParkedMessage) -> ReceivedMessage:
    """The message of a row in `parked_messages`."""
    headers = message.headers
    return ReceivedMessage(
        message.message_id,
        message.type,
        _text(headers.get("account")) or message.account_key or "",
        message.body,
        _instant(headers.get("occurred_at")),
        _text(headers.get("traceparent")),
        headers,
    )


async def read(messages: Sequence[ReceivedMessage], decode: Decode, database: Database) -> Read:
    """Messages as items, in order. Known customers and payments become their users; no message stops another."""
    accounts = {message.account: message.account for message in messages}
    if any(account.startswith(LOOKED_UP_PREFIXES) for account in accounts):
        storable = {account for account in accounts if NUL not in account}
        accounts |= await database.with_connection(lambda connection: resolve_accounts(connection, storable))
    result = Read([], [])
    for message in messages:
        try:
            _require_sound(message)
            result.items.append(decode(message, accounts[message.account]))
        except Exception as error:  # noqa: BLE001 - a bug of ours must not stop those behind either
            result.failed.append(failed(message, error))
    return result


def failed(message: ReceivedMessage, error: Exception) -> FailedMessage:
    """The message as it is written down: under its id or one made of its content, without what cannot be stored."""
    copy = MessageCopy(_storable(message.type), _storable(dict(message.headers)), message.body)
    return FailedMessage(
        _storable(message.message_id) or _id_of(message), _storable(message.account) or None, copy, error
    )


def failed_item(item: Item, error: Exception) -> FailedMessage:
    """Likewise, of an item that was read."""
    assert item.copy, "a message's item carries its copy"
    copy = replace(item.copy, headers=_storable(dict(item.copy.headers)))
    return FailedMessage(item.id, item.key, copy, error)


def _require_sound(message: ReceivedMessage) -> None:
    for name, text in (("id", message.message_id), ("account", message.account)):
        if not text or len(text) > MAX_KEY_CHARACTERS or NUL in text:
            raise UnreadableMessage(f"a message needs an {name} of 1 to {MAX_KEY_CHARACTERS} characters")
    if not message.account.startswith((USER_PREFIX, *LOOKED_UP_PREFIXES)):
        raise UnreadableMessage("a message's account begins with user:, customer: or payment:")


def _id_of(message: ReceivedMessage) -> str:
    content = hashlib.sha256(message.body)
    content.update(f"{message.type}|{message.account}".encode())
    return f"unidentified:{content.hexdigest()}"


def _storable(value: Any) -> Any:  # noqa: ANN401 - header values are whatever AMQP carries
    if isinstance(value, str):
        return value.replace(NUL, "\ufffd")
    if isinstance(value, Mapping):
        return {_storable(str(key)): _storable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else _storable(str(value))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _instant(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
