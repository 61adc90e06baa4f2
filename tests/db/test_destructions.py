from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.rows import Hosting, hosting_of
from bursar.billing.kiloclaw.trial import provision
from bursar.billing.values import replace
from bursar.db.connections import Connection
from bursar.db.items import Dedupe, Item, Situation
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW
from tests.db.deciding import StandingClock, a_decider, an_item

LATER = NOW + 60 * DAY


def provisioning(user: str) -> Item:
    return an_item(
        f"command:{user}",
        user,
        lambda account: provision(account, f"inst-{user}", CATALOGUE, NOW, f"command:{user}"),
    )


def enforcing(user: str) -> Item:
    def decide(account: object, situation: Situation) -> object:
        facts = Circumstances(CATALOGUE, situation.now, slot_left=situation.slot_left)
        return enforce(account, facts)  # type: ignore[arg-type]

    return replace(an_item(f"tick:{user}", user, dedupe=Dedupe.STATE, copy=None), decide=decide)  # type: ignore[arg-type]


async def test_kc_74_no_more_destructions_a_day_than_the_cap_whatever_the_number_of_batches(
    database_url: str, connection: Connection
) -> None:
    users = [f"user-{number}" for number in range(5)]
    clock = StandingClock()
    async with a_decider(database_url, clock, destructions_per_day=2) as decider:
        await decider.decide([provisioning(user) for user in users])
        clock.now = LATER
        await decider.decide([enforcing(user) for user in users])
        clock.now = LATER + 8 * DAY
        first = await decider.decide([enforcing(user) for user in users[:3]])
        second = await decider.decide([enforcing(user) for user in users])
        marked = await connection.fetchval("SELECT count(*) FROM kiloclaw_instances WHERE destroying_since IS NOT NULL")
        clock.now += DAY
        await decider.decide([enforcing(user) for user in users])

    assert marked == 2
    assert [outcome.decision.counts.get("deferred_by_cap", 0) for outcome in first if outcome.decision] == [0, 0, 1]
    assert sum(outcome.decision.counts.get("deferred_by_cap", 0) for outcome in second if outcome.decision) == 3
    assert await connection.fetchval("SELECT count(*) FROM kiloclaw_instances WHERE destroying_since IS NOT NULL") == 4
    assert [tuple(row) for row in await connection.fetch("SELECT used FROM destruction_days ORDER BY day")] == [
        (2,),
        (2,),
    ]


async def test_kc_77_a_new_generation_is_due_at_once_and_starts_without_attempts(
    database_url: str, connection: Connection
) -> None:
    clock = StandingClock()
    async with a_decider(database_url, clock) as decider:
        await decider.decide([provisioning("ada")])
        await connection.execute("UPDATE kiloclaw_instances SET attempts = 7, due_at = 'infinity', error = 'refused'")
        clock.now = LATER
        await decider.decide([enforcing("ada")])

    row = await connection.fetchrow(
        "SELECT generation, done_generation, attempts, error, due_at FROM kiloclaw_instances"
    )
    assert row is not None
    assert tuple(row) == (2, 1, 0, None, clock.real_now)


async def test_what_was_saved_is_what_is_loaded(database_url: str) -> None:
    seen: list[Hosting] = []
    clock = StandingClock()
    async with a_decider(database_url, clock) as decider:
        await decider.decide([provisioning("ada")])
        clock.now = LATER
        decided = await decider.decide([enforcing("ada")])

        def look(account: object) -> object:
            seen.append(hosting_of(account))  # type: ignore[arg-type]
            return Decision(account)  # type: ignore[arg-type]

        await decider.decide([an_item("look", decide=look)])  # type: ignore[arg-type]

    assert decided[0].decision is not None
    assert seen == [hosting_of(decided[0].decision.account)]
