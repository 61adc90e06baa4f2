"""The parts an account can be loaded with: for each, how it is loaded for many accounts at once, and saved."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from bursar.billing.account import Account, Profile
from bursar.billing.credits.ledger import Credits
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.operations import Operations
from bursar.billing.values import Value
from bursar.db import credits as ledger
from bursar.db import kiloclaw, operations, users
from bursar.db.accounts import lock_accounts
from bursar.db.connections import Connection
from bursar.db.saving import Change, SaveContext

Load = Callable[[Connection, list[str]], Awaitable[Mapping[str, Any]]]
Save = Callable[[Connection, "list[Change[Any]]", SaveContext], Awaitable[None]]


class PartStore(Value):
    """A fixed number of set-based statements each."""

    load: Load
    save: Save


STORES: Mapping[type[Any], PartStore] = MappingProxyType(
    {
        Profile: PartStore(users.load, users.save),
        Hosting: PartStore(kiloclaw.load, kiloclaw.save),
        Credits: PartStore(ledger.load, ledger.save),
        Operations: PartStore(operations.load, operations.save),
    }
)


async def load_accounts(
    connection: Connection,
    keys: Collection[str],
    kinds: Collection[type[Any]],
    ledgers: Mapping[str, frozenset[str] | None] | None = None,
) -> dict[str, Account]:
    """The accounts with those parts; one that has no rows yet gets empty parts.

    `ledgers` are the accounts whose ledger is asked about, with the payments alone that it is asked about (None: with
    anything); the others get no `Credits` then.
    """
    names = sorted(keys)  # rows are written in this order, whoever asks
    loaded = dict[type[Any], Mapping[str, Any]]()
    for kind in sorted(kinds, key=lambda kind: kind.__name__):
        if kind is Credits and ledgers is not None:
            loaded[kind] = await ledger.load(connection, sorted(ledgers), ledgers)
        else:
            loaded[kind] = await STORES[kind].load(connection, names)
    return {key: Account(key, {kind: parts[key] for kind, parts in loaded.items() if key in parts}) for key in names}


async def load_locked(connection: Connection, key: str, kinds: Collection[type[Any]]) -> Account:
    """One account under its lock, for as long as the caller's transaction; one that is gone has empty parts."""
    await lock_accounts(connection, [key])
    return (await load_accounts(connection, {key}, kinds))[key]


async def save_accounts(
    connection: Connection, before: Mapping[str, Account], after: Mapping[str, Account], context: SaveContext
) -> None:
    """Write the parts that changed."""
    for kind, store in STORES.items():
        changes = [
            Change(key, before[key].parts[kind], account.parts[kind])
            for key, account in after.items()
            if kind in account.parts and account.parts[kind] is not before[key].parts[kind]
        ]
        if changes:
            await store.save(connection, changes, context)
