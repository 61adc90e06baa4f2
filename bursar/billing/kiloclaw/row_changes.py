"""The one place where a subscription row changes."""

from dataclasses import replace

from bursar.billing.account import Account
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.kiloclaw.transitions import check_transition


def with_row(account: Account, row: Subscription) -> Account:
    """The account with that changed row, its version one on from the known one's.

    Raises UndeclaredTransition for a change that the table of transitions does not have.
    """
    hosting = hosting_of(account)
    check_transition(hosting.subscription, row)
    if row.top_up_boundary and (row.status == "canceled" or row.credit_renewal_at != row.top_up_boundary):
        row = replace(row, top_up_boundary=None)  # CR-40
    version = (hosting.subscription.version if hosting.subscription else 0) + 1
    counted = row if row.version == version else replace(row, version=version)
    return account.having(replace(hosting, subscription=counted))
