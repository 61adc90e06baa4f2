"""A trial from its first day to the destroyed instance, and one that is paid in time."""

from datetime import timedelta

from tests.stories.conftest import BEGINNING
from tests.stories.world import World


def day(number: int, minutes: int = 0) -> timedelta:
    return timedelta(days=number, minutes=minutes)


async def test_kc_10_kc_60_kc_73_a_trial_that_nobody_pays(world: World) -> None:
    await world.product.put_user("ada", None)
    await world.product.provision("ada", "i-ada")
    status = await world.get("ada", "status")
    assert (status["hasAccess"], status["accessReason"]) == (True, "trial")

    await world.at(BEGINNING + day(26))
    await world.at(BEGINNING + day(29, 30))
    assert world.mails("ada") == ["claw_trial_5d", "claw_trial_1d"]
    assert (await world.get("ada", "access"))["http_status"] == 200

    await world.at(BEGINNING + day(30, 1))
    assert world.instance("i-ada") == "stopped"
    assert (await world.get("ada", "access"))["http_status"] == 403
    row = await world.row("ada")
    assert (row["status"], row["destruction_deadline"]) == ("canceled", row["suspended_at"] + day(7))

    await world.at(BEGINNING + day(35, 2))
    await world.at(BEGINNING + day(37, 2))
    assert world.instance("i-ada") == "destroyed"
    assert world.mails("ada")[2:] == ["claw_suspended_trial", "claw_destruction_warning", "claw_instance_destroyed"]
    assert (await world.row("ada"))["destruction_deadline"] is None
    status_code, answer = await world.post("ada", "trial")
    assert (status_code, answer["code"]) == (400, "already_subscribed")
