"""`bursar failures` against a real database (CR-63)."""

import json

import asyncpg

from bursar.db import renewal_failures
from bursar.db.renewal_failures import FailedRenewal
from tests.billing.credits.crediting import DUE, a_credit_row
from tests.db.deciding import REAL_NOW
from tests.service.cli.running import bursar
from tests.service.cli.test_parked_actions import SETTINGS
from tests.service.crediting import balance, hosted
from tests.service.steps.acting import acting

REASON = ("--reason", "the bank is open again", "--actor", "olga")


async def test_cr_63_listed_tried_again_and_settled_once(database_url: str, connection: asyncpg.Connection) -> None:
    async with acting(database_url) as worker:
        await connection.execute("INSERT INTO topology (partitions) VALUES (32)")
        for user in ("ada", "eve"):
            await hosted(worker, a_credit_row(), 100, user)
            await renewal_failures.record(connection, [FailedRenewal(f"user:{user}", DUE, 3, REAL_NOW, "bug", "Boom")])
        environment = {"DATABASE_URL": database_url, **SETTINGS}
        listed = json.loads(bursar("failures", "list", "--json", **environment).out)
        eve, ada = (str(one["id"]) for one in listed)
        assert [one["state"] for one in listed] == ["unresolved"] * 2

        tried = bursar("failures", "retry", ada, *REASON, "--json", **environment)
        assert (tried.exit_code, json.loads(tried.out)["outcome"]) == (0, "renewed"), tried.err
        assert await balance(worker) == 75
        waived = bursar("failures", "waive", eve, *REASON, **environment)
        again = bursar("failures", "resolve", eve, *REASON, **environment)
        assert (waived.out, again.out) == (f"Renewal {eve} is waived.\n", f"Renewal {eve} was waived already.\n")
        assert await balance(worker, "eve") == 100
        assert "waived" in bursar("failures", "list", **environment).out

        unknown = bursar("failures", "waive", "4711", *REASON, **environment)
        assert (unknown.exit_code, unknown.err.count("\n")) == (1, 1)
        assert bursar("failures", "waive", eve, **environment).exit_code == 2
