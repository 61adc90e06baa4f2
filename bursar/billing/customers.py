"""A user's Stripe customer: known, else found by its e-mail address, else created, and then kept (KC-20)."""

from collections.abc import Generator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from bursar.billing.account import Account, Profile
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.lists import Customers
from bursar.billing.values import replace

FIND, CREATE = "find-customer", "create-customer"


class CustomerWanted(BaseModel):
    """Whose customer; `customer_id` where it is known already."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: str
    customer_id: str | None = None
    email: str | None = None
    name: str | None = None

    @classmethod
    def of(cls, profile: Profile, known_customer_id: str | None = None) -> Self:
        """The customer of that profile, else the one that another row names."""
        return cls(
            user_id=profile.user_id,
            customer_id=profile.stripe_customer_id or known_customer_id,
            email=profile.email,
            name=profile.name,
        )


def customer(wanted: CustomerWanted) -> Generator[Call, Any, str]:
    """The customer's id. It is created under a key that is the user's own, so that two operations create one."""
    if wanted.customer_id:
        return wanted.customer_id
    if wanted.email:
        known = yield Call(FIND, Method.LIST_CUSTOMERS, params={"email": wanted.email})
        own = _own(wanted, known)
        if own:
            return own
    created = yield Call(
        CREATE, Method.CREATE_CUSTOMER, params=_params(wanted), idempotency_key=f"customer:{wanted.user_id}"
    )
    created_id: str = created.id
    return created_id


def customer_learnt(wanted: CustomerWanted, answers: Mapping[str, Any]) -> str | None:
    """The customer's id as far as the calls went, whatever became of the operation."""
    if wanted.customer_id:
        return wanted.customer_id
    if CREATE in answers:
        created_id: str = answers[CREATE].id
        return created_id
    return _own(wanted, answers[FIND]) if FIND in answers else None


def with_customer(account: Account, customer_id: str | None) -> Account:
    """The account with its customer kept; one that was told meanwhile wins, and a deleted user keeps none."""
    profile = account.part(Profile)
    if customer_id is None or profile.stripe_customer_id or profile.deleted_at:
        return account
    return account.having(replace(profile, stripe_customer_id=customer_id))


def _own(wanted: CustomerWanted, known: Customers) -> str | None:
    return next((one.id for one in known.data if one.metadata.get("userId") == wanted.user_id), None)


def _params(wanted: CustomerWanted) -> dict[str, Any]:
    told = {"email": wanted.email, "name": wanted.name}
    return {name: text for name, text in told.items() if text} | {"metadata": {"userId": wanted.user_id}}
