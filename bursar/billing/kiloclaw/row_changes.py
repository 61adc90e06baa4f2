"""The one place where a subscription row changes."""

from bursar.billing.account import Account
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.kiloclaw.transitions import check_transition
from bursar.billing.values import replace


def with_row(account: Account, row: Subscription) -> Account:
    """The account with that changed row, its version one on from the known one's.

    Raises UndeclaredTransition for a change that the table of transitions does not have.
    """
    hosting = hosting_of(account)
    check_transition(hosting.subscription, row)
    is_over = row.status == "canceled" or row.credit_renewal_at != row.top_up_boundary
    boundary = None if is_over else row.top_up_boundary  # CR-40
    version = (hosting.subscription.version if hosting.subscription else 0) + 1
    is_counted = row.version == version and row.top_up_boundary == boundary
    counted = row if is_counted else replace(row, version=version, top_up_boundary=boundary)
    return account.having(replace(hosting, subscription=counted))
