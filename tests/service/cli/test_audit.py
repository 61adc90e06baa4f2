"""`bursar audit` against a real database (CR-4)."""

import json

import asyncpg

from tests.service.checks.test_auditing import GIFT, tamper
from tests.service.cli.running import bursar
from tests.service.cli.test_parked_actions import SETTINGS
from tests.service.crediting import giving
from tests.service.steps.acting import acting


async def test_cr_4_audited_stopped_and_cleared(database_url: str, connection: asyncpg.Connection) -> None:
    environment = {"DATABASE_URL": database_url, **SETTINGS}
    async with acting(database_url) as worker:
        await worker.decider.decide([giving(1), giving(1, "eve")])
    fine = bursar("audit", **environment)
    assert (fine.exit_code, fine.out) == (0, "Audited 2 accounts; charges are stopped for 0 users.\n")

    await tamper(connection, GIFT, "ada")
    found = bursar("audit", "--json", **environment)
    told = json.loads(found.out)
    assert (found.exit_code, told["charges_stopped"], told["mismatches"][0]["user_id"]) == (1, ["ada"], "ada")
    assert "do not fit" in found.err

    clearing = ("audit", "clear", "ada", "--reason", "put right", "--actor", "olga")
    cleared, again = bursar(*clearing, **environment), bursar(*clearing, **environment)
    assert (cleared.out, again.out) == (
        "Charges of ada are made again.\n",
        "Nothing stops the charges of ada.\n",
    )
    assert bursar("audit", "clear", "ada", **environment).exit_code == 2
