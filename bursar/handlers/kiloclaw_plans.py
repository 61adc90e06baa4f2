"""The product's commands on plans (KC-42…KC-44, KC-47), as items for `decide_batch`."""

from collections.abc import Callable

from bursar.billing.account import Account, user_key
from bursar.billing.catalogue import Catalogue, PaidPlan
from bursar.billing.credits.ledger import Credits
from bursar.billing.credits.renewal import renew_commit as renew_from_credits
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.operations.renewal import renew_commit
from bursar.billing.kiloclaw.operations.switching import cancel_plan_switch, switch_plan
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.values import replace
from bursar.db.items import Item, NewLease, Situation
from bursar.handlers.kiloclaw_commands import OPERATION_PARTS


def switch_plan_item(command_id: str, user_id: str, target: PaidPlan, catalogue: Catalogue, lease: NewLease) -> Item:
    """Switch at the end of what runs (KC-42, KC-43)."""
    return _item(command_id, user_id, lambda account, _: switch_plan(account, target, catalogue, command_id), lease)


def cancel_plan_switch_item(command_id: str, user_id: str, catalogue: Catalogue, lease: NewLease) -> Item:
    """Take a switch back (KC-44)."""
    return _item(command_id, user_id, lambda account, _: cancel_plan_switch(account, catalogue, command_id), lease)


def renew_commit_item(command_id: str, user_id: str, catalogue: Catalogue, lease: NewLease) -> Item:
    """Pay six further months (KC-47), from the credits where the row has nothing else (CR-36)."""

    def decide(account: Account, facts: Situation) -> Decision:
        row = hosting_of(account).subscription
        if row and row.is_pure_credit:
            return renew_from_credits(account, catalogue, command_id)
        return renew_commit(account, catalogue, facts.now, command_id)

    return replace(_item(command_id, user_id, decide, lease), parts=OPERATION_PARTS | {Credits})


def _item(command_id: str, user_id: str, decide: Callable[[Account, Situation], Decision], lease: NewLease) -> Item:
    return Item(command_id, user_key(user_id), OPERATION_PARTS, decide, actor="api", lease=lease)
