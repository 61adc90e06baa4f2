"""What the users do, through the product's commands: each as the API carries it out."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from bursar.billing.catalogue import Catalogue, CheckoutTerms, Funding
from bursar.billing.credits.enrolment import Enrolment
from bursar.billing.kiloclaw.operations.checkout import WantedCheckout
from bursar.billing.values import Value
from bursar.db.items import Item
from bursar.handlers.credits import auto_top_up_item, credit_checkout_item, enrolment_item
from bursar.handlers.kiloclaw_commands import (
    cancel_item,
    checkout_item,
    destroyed_item,
    earlybird_item,
    provision_item,
    reactivate_item,
    trial_item,
)
from bursar.handlers.kiloclaw_plans import cancel_plan_switch_item, renew_commit_item, switch_plan_item
from bursar.handlers.users import profile_item
from bursar.service.simulation.process import APP_URL, Process
from bursar.service.web.commands import decided
from bursar.service.web.deleting import deleted
from bursar.service.web.operations import ItemOf, operated


class Command(Value):
    """One command of one user; sent again it keeps its id, as the caller's Idempotency-Key does."""

    id: str
    verb: str
    user_id: str
    argument: Any = None  # a plan, an instance's id, a payment's id, an amount in cents, whether to switch on


Result = Mapping[str, Any]
Send = Callable[[Process, Command], Awaitable[Result | None]]


def _deciding(item_of: Callable[[Process, Command], Item]) -> Send:
    async def send(process: Process, command: Command) -> Result:
        return await decided(process.decider, item_of(process, command))

    return send


def _operating(item_of: Callable[[Process, Command], ItemOf]) -> Send:
    async def send(process: Process, command: Command) -> Result:
        return await operated(process.web, item_of(process, command))

    return send


async def _delete(process: Process, command: Command) -> None:
    await deleted(process.decider, command.user_id, command.id)


def _checkout(process: Process, command: Command) -> ItemOf:
    plan, funding = command.argument
    wanted, catalogue = WantedCheckout(plan, APP_URL, APP_URL), _selling(process.outside.catalogue, funding)
    return lambda lease: checkout_item(command.id, command.user_id, wanted, catalogue, lease)


def _selling(catalogue: Catalogue, funding: Funding) -> Catalogue:
    """The catalogue as it is where new subscriptions are funded that way."""
    terms = catalogue.kiloclaw.model_copy(update={"checkout": CheckoutTerms(funding=funding)})
    return catalogue.model_copy(update={"kiloclaw": terms})


def _credit_checkout(process: Process, command: Command) -> ItemOf:
    return lambda lease: credit_checkout_item(
        command.id, command.user_id, command.argument, APP_URL, process.outside.catalogue, lease
    )


def _enrolment(process: Process, command: Command) -> Item:
    plan, instance_id = command.argument
    asked = Enrolment(plan, instance_id, command.id)
    return enrolment_item(command.user_id, asked, process.outside.catalogue)


VERBS: Mapping[str, Send] = MappingProxyType(
    {
        "tell_profile": _deciding(
            lambda _, one: profile_item(one.id, one.user_id, {"email": f"{one.user_id}@example.test", "name": "Ada"})
        ),
        "start_trial": _deciding(lambda process, one: trial_item(one.id, one.user_id, process.outside.catalogue)),
        "provision": _deciding(
            lambda process, one: provision_item(one.id, one.user_id, one.argument, process.outside.catalogue)
        ),
        "destroy_instance": _deciding(lambda _, one: destroyed_item(one.id, one.user_id, one.argument)),
        "buy_earlybird": _deciding(
            lambda process, one: earlybird_item(one.id, one.user_id, one.argument, process.outside.catalogue)
        ),
        "enroll": _deciding(_enrolment),
        "auto_top_up": _deciding(lambda _, one: auto_top_up_item(one.id, one.user_id, enabled=one.argument)),
        "buy_credits": _operating(_credit_checkout),
        "check_out": _operating(_checkout),
        "cancel": _operating(lambda _, one: lambda lease: cancel_item(one.id, one.user_id, lease)),
        "reactivate": _operating(
            lambda process, one: lambda lease: reactivate_item(one.id, one.user_id, process.outside.catalogue, lease)
        ),
        "switch_plan": _operating(
            lambda process, one: (
                lambda lease: switch_plan_item(one.id, one.user_id, one.argument, process.outside.catalogue, lease)
            )
        ),
        "cancel_switch": _operating(
            lambda process, one: (
                lambda lease: cancel_plan_switch_item(one.id, one.user_id, process.outside.catalogue, lease)
            )
        ),
        "renew_commit": _operating(
            lambda process, one: lambda lease: renew_commit_item(one.id, one.user_id, process.outside.catalogue, lease)
        ),
        "delete_user": _delete,
    }
)
