"""Deleting a user, and knowing one again: the accounts of all their customers are locked together (KC-120, KC-121)."""

from bursar.billing.account import customer_key, user_key
from bursar.billing.errors import AskAgain
from bursar.db import erased
from bursar.db.connections import Connection
from bursar.db.deletion import Deletion, customers_of
from bursar.handlers.users import customer_item, deletion_item, erasing
from bursar.service.deciding.decider import CONTENTION, AccountBusy, Decider

MAX_STARTS = 3  # a further customer may become known while the locks are waited for


async def deleted(decider: Decider, user_id: str, command_id: str) -> None:
    """Delete the user; nothing for one who is deleted already. Raises `Refused`, AccountBusy, DatabaseUnavailable."""
    for _ in range(MAX_STARTS):
        gone = await decider.with_connection(lambda connection: _deletion(decider, connection, user_id))
        if gone is None:
            return
        try:
            await _delete(decider, gone, command_id)
        except AskAgain:
            continue
        except CONTENTION:
            break
        return
    raise AccountBusy("the account is busy")


async def known_again(decider: Decider, user_id: str, stripe_customer_id: str | None) -> None:
    """The product tells of this user, and of this customer: whatever was deleted under these names is not them."""
    names = [user_key(user_id), *([customer_key(stripe_customer_id)] if stripe_customer_id else [])]
    await decider.with_connection(lambda connection: erased.unmark(connection, names))


async def _delete(decider: Decider, gone: Deletion, command_id: str) -> None:
    item = deletion_item(command_id, gone.user_id, gone.customer_ids)
    locked = [customer_item(command_id, customer_id) for customer_id in gone.customer_ids]
    outcomes = await decider.decide_together([*locked, item], erasing(item, gone))
    if outcomes[-1].error:
        raise outcomes[-1].error


async def _deletion(decider: Decider, connection: Connection, user_id: str) -> Deletion | None:
    if await erased.among(connection, [user_key(user_id)]):
        return None
    situation = await decider.clock.situation(connection)
    return Deletion(
        user_id,
        await customers_of(connection, user_id),
        decider.limits.partitions,
        situation.now,
        situation.real_now,
    )
