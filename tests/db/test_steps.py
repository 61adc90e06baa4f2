import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.errors import AskAgain
from bursar.billing.kiloclaw.stripe_events import reading
from bursar.billing.steps import Step, StepKind, StepState
from bursar.billing.values import replace
from bursar.db import steps
from bursar.db.connections import Connection
from bursar.db.items import Dedupe, Item, OutcomeState, StepAnswer
from bursar.service.deciding.decider import Decider
from tests.db.deciding import REAL_NOW, a_decider, an_item

LEASE = timedelta(seconds=60)
MAIL = StepKind.SEND_MAIL
READ = StepKind.READ_SUBSCRIPTIONS


def asking(item_id: str) -> Item:
    return an_item(item_id, decide=lambda account: reading(account, "asked"))


def mailing(item_id: str) -> Item:
    step = Step(MAIL, "mail:ada:claw_trial_5d:", {"email_type": "claw_trial_5d"})
    return an_item(item_id, decide=lambda account: Decision(account, (step,)))


def answering(step: steps.ClaimedStep, state: StepState = StepState.DONE, **changes: Any) -> Item:
    answer = StepAnswer(step.id, step.lease, step.asked, state)
    return an_item(f"step:{step.id}:{step.attempts}", dedupe=Dedupe.STEP, copy=None, answer=answer, **changes)


async def claimed(connection: Connection, kind: StepKind = READ, after: timedelta = timedelta()) -> Any:
    now = REAL_NOW + after
    found = await steps.claim(connection, kind, now, now + LEASE, 16)
    return found[0] if found else None


async def state_of(decider: Decider) -> tuple[Any, ...]:
    async with decider.pool.acquire() as connection:
        return tuple(await connection.fetchrow("SELECT state, asked, attempts, lease FROM steps"))


async def test_ms_3_a_step_is_written_once_under_its_key(database_url: str, connection: Connection) -> None:
    async with a_decider(database_url) as decider:
        await decider.decide([mailing("evt_1"), mailing("evt_2")])
        await decider.decide([mailing("evt_3")])

    assert await connection.fetchval("SELECT count(*) FROM steps") == 1
    assert await connection.fetchval("SELECT cause FROM steps") in ("evt_1", "evt_2")


async def test_a_claimed_step_is_nobody_elses_until_its_lease_ends(database_url: str) -> None:
    async with a_decider(database_url) as decider, decider.pool.acquire() as connection:
        await decider.decide([asking("evt_1")])
        first = await claimed(connection)
        assert await claimed(connection, after=LEASE - timedelta(seconds=1)) is None
        second = await claimed(connection, after=LEASE)

    assert (first.attempts, second.attempts) == (1, 2)
    assert first.lease != second.lease


async def test_concurrent_claims_share_the_steps_and_wait_for_nobody(database_url: str) -> None:
    items = [
        an_item(f"evt_{number}", f"user-{number}", lambda account: reading(account, "asked")) for number in range(40)
    ]
    async with a_decider(database_url) as decider:
        await decider.decide(items)

        async def claim_some() -> list[int]:
            async with decider.pool.acquire() as connection:
                return [step.id for step in await steps.claim(connection, READ, REAL_NOW, REAL_NOW + LEASE, 16)]

        shares = await asyncio.gather(*(claim_some() for _ in range(4)))

    claimed_ids = [step_id for share in shares for step_id in share]
    assert sorted(claimed_ids) == sorted(set(claimed_ids))
    assert len(claimed_ids) == 40


async def test_ms_4_a_zombies_answer_counts_for_nothing(database_url: str, connection: Connection) -> None:
    async with a_decider(database_url) as decider:
        await decider.decide([asking("evt_1")])
        zombie = await claimed(connection)
        successor = await claimed(connection, after=LEASE)
        late = await decider.decide([answering(zombie)])
        in_time = await decider.decide([answering(successor)])
        twice = await decider.decide([answering(successor)])

    assert [batch[0].state for batch in (late, in_time, twice)] == [
        OutcomeState.DUPLICATE,
        OutcomeState.APPLIED,
        OutcomeState.DUPLICATE,
    ]


async def test_ms_4_a_zombies_answer_counts_for_nothing_beside_its_successors(
    database_url: str, connection: Connection
) -> None:
    decided: list[str] = []

    def applying(name: str) -> Callable[[Account], Decision]:
        def apply(account: Account) -> Decision:
            decided.append(name)
            return Decision(account)

        return apply

    async with a_decider(database_url) as decider:
        await decider.decide([asking("evt_1")])
        zombie, successor = await claimed(connection), await claimed(connection, after=LEASE)
        await decider.decide(
            [answering(zombie, decide=applying("zombie")), answering(successor, decide=applying("successor"))]
        )

    assert decided == ["successor"]


async def test_kc_32_a_read_that_is_asked_for_beside_its_answer_is_due_again(
    database_url: str, connection: Connection
) -> None:
    async with a_decider(database_url) as decider:
        for number in (1, 2):
            await decider.decide([asking(f"evt_{number}")])
            batch = [asking(f"evt_{number}_beside"), answering(await claimed(connection))]
            await decider.decide(batch if number == 1 else batch[::-1])

            assert await state_of(decider) == ("due", 2 * number, 0, None)
            await decider.decide([answering(await claimed(connection))])


async def test_kc_32_reads_are_coalesced_while_due(database_url: str, connection: Connection) -> None:
    async with a_decider(database_url) as decider:
        await decider.decide([asking("evt_1"), asking("evt_2")])
        await decider.decide([asking("evt_3")])

    assert await connection.fetchval("SELECT count(*) FROM steps WHERE state = 'due'") == 1


async def test_kc_32_an_answer_to_an_earlier_asking_is_not_applied_and_it_is_asked_again(
    database_url: str, connection: Connection
) -> None:
    decided: list[str] = []

    def apply(account: Account) -> Decision:
        decided.append(account.key)
        return Decision(account)

    async with a_decider(database_url) as decider:
        await decider.decide([asking("evt_1")])
        early = await claimed(connection)
        await decider.decide([asking("evt_2")])
        await decider.decide([answering(early, decide=apply)])
        assert (decided, (await state_of(decider))[0]) == ([], "due")
        await decider.decide([answering(await claimed(connection), decide=apply)])
        assert (decided, (await state_of(decider))[0]) == (["user:ada"], "done")
        await decider.decide([asking("evt_3")])
        assert (await state_of(decider))[0] == "due"


async def test_kc_32_a_read_whose_row_moved_is_asked_again(database_url: str, connection: Connection) -> None:
    def moved(_: Account) -> Decision:
        raise AskAgain("the row moved")

    async with a_decider(database_url) as decider:
        await decider.decide([asking("evt_1")])
        await decider.decide([answering(await claimed(connection), decide=moved)])

        assert await state_of(decider) == ("due", 1, 1, None)


async def test_a_postponed_step_comes_due_at_its_instant(database_url: str, connection: Connection) -> None:
    async with a_decider(database_url) as decider:
        await decider.decide([mailing("evt_1")])
        step = await claimed(connection, MAIL)
        await steps.postpone(connection, step, REAL_NOW, REAL_NOW + timedelta(minutes=5), "busy")

        assert await claimed(connection, MAIL, timedelta(minutes=4)) is None
        again = await claimed(connection, MAIL, timedelta(minutes=5))
        assert replace(again, lease=step.lease, attempts=1) == step


async def test_kc_88_a_skipped_step_can_be_revived(database_url: str, connection: Connection) -> None:
    async with a_decider(database_url) as decider:
        await decider.decide([mailing("evt_1")])
        await decider.decide([answering(await claimed(connection, MAIL), StepState.SKIPPED)])
        assert await claimed(connection, MAIL, timedelta(days=1)) is None

        assert await steps.revive_skipped(connection, REAL_NOW + LEASE, REAL_NOW, 100) == 1
        assert await claimed(connection, MAIL) is not None


async def test_kc_37_a_read_that_ran_out_of_attempts_is_asked_again_by_the_sweep(
    database_url: str, connection: Connection
) -> None:
    async with a_decider(database_url) as decider:
        await decider.decide([asking("evt_1"), mailing("evt_2")])
        for kind in (READ, MAIL):
            await decider.decide([answering(await claimed(connection, kind), StepState.FAILED)])

        assert await steps.revive_failed_reads(connection, REAL_NOW + LEASE, REAL_NOW + LEASE, 100) == 1
        assert await claimed(connection, READ, LEASE) is not None
        assert await claimed(connection, MAIL, LEASE) is None
