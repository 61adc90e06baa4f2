"""A service that knows the right end in advance: it lets the walk be tested without the real one.

`flaws` make it wrong in one way each: `loses`, `parks`, `mails_twice`, `wrong_row`, `forgets_instance`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

import asyncpg
import orjson
import stripe
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bursar.service.demo.expectations import RowView, at_the_end, expected_mails, expected_rows, handled_event_ids
from bursar.service.demo.run import DAYS, Plan
from bursar.service.demo.stand_ins import StandIns
from bursar.service.demo.standing_in import has_bearer
from bursar.service.demo.verdict import instance_of
from bursar.service.gateways.instances import InstancesGateway, instances_client
from bursar.service.gateways.mail import OutgoingMail
from bursar.service.gateways.smtp import SmtpMail, SmtpSettings

API_SECRET = "api-secret"
CRON_SECRET = "cron-secret"
WEBHOOK_SECRET = "whsec_demo"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class OracleService:
    def __init__(self, pool: asyncpg.Pool, plan: Plan, outside: StandIns, flaws: Sequence[str] = ()) -> None:
        self.users: set[str] = set()
        self.clock: list[datetime] = []
        self.ticks: list[datetime] = []
        self._pool = pool
        self._rows = expected_rows(plan.lives, plan.trial_users)
        self._handled = handled_event_ids(plan.lives)
        self._outside = outside
        self._flaws = flaws
        self._asked: set[str] = set()

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/webhooks/stripe", self.take_webhook, methods=["POST"]),
                Route("/v1/users/{user}", self.put_user, methods=["PUT"]),
                Route("/v1/users/{user}/kiloclaw/{what}", self.command, methods=["POST"]),
                Route("/v1/ops/clock", self.set_clock, methods=["PUT"]),
                Route("/v1/ticks/hourly", self.take_tick, methods=["POST"]),
                Route("/v1/ticks/{tick}", self.tell_tick, methods=["GET"]),
            ]
        )

    async def take_webhook(self, request: Request) -> Response:
        body = await request.body()
        stripe.WebhookSignature.verify_header(body.decode(), request.headers["Stripe-Signature"], WEBHOOK_SECRET, 300)
        event_id = orjson.loads(body)["id"]
        if event_id in self._handled and not ("loses" in self._flaws and event_id == max(self._handled)):
            await self._pool.execute("INSERT INTO inbox VALUES ($1, $2) ON CONFLICT DO NOTHING", event_id, LONG_AGO)
        return Response()

    async def put_user(self, request: Request) -> Response:
        assert has_bearer(request, API_SECRET)
        self.users.add(request.path_params["user"])
        return JSONResponse({})

    async def command(self, request: Request) -> Response:
        known = has_bearer(request, API_SECRET) and request.path_params["user"] in self.users
        return JSONResponse({}, 200 if known else 403)

    async def set_clock(self, request: Request) -> Response:
        assert has_bearer(request, API_SECRET)
        self.clock.append(datetime.fromisoformat((await request.json())["now"]))
        return JSONResponse({})

    async def take_tick(self, request: Request) -> Response:
        assert has_bearer(request, CRON_SECRET)
        self.ticks.append(datetime.fromisoformat((await request.json())["due_at"]))
        return JSONResponse({"id": len(self.ticks)}, 202)

    async def tell_tick(self, request: Request) -> Response:
        """Running when first asked, then done."""
        tick = request.path_params["tick"]
        state = "done" if tick in self._asked else "running"
        self._asked.add(tick)
        return JSONResponse({"id": tick, "state": state, "counts": {}})

    async def become_quiet(self) -> None:
        """After the replay the rows stand; on the last day everything that time brought has happened."""
        if not self.ticks:
            await self._save_rows()
        if len(self.ticks) == DAYS:
            await self._pool.execute("UPDATE kiloclaw_subscriptions SET status = 'canceled' WHERE plan = 'trial'")
            await self._send_mails()
            await self._operate_instances()
        if len(self.ticks) == DAYS and "parks" in self._flaws:
            await self._park()

    async def _save_rows(self) -> None:
        for row in self._rows.values():
            wrong = row.plan == "standard" and "wrong_row" in self._flaws
            await self._save(row, plan="commit" if wrong else row.plan)

    async def _save(self, row: RowView, plan: str) -> None:
        on_trial = row.plan == "trial"
        await self._pool.execute("INSERT INTO accounts (key, partition) VALUES ($1, 0)", f"user:{row.user_id}")
        await self._pool.execute(
            """
            INSERT INTO kiloclaw_subscriptions (
                id, user_id, account_key, partition, version, plan, status, payment_source, stripe_subscription_id,
                trial_started_at, trial_ends_at, current_period_start, current_period_end, cancel_at_period_end,
                past_due_since, created_at)
            VALUES ($1, $2, $3, 0, 1, $4, $5, $6, $7, $8, $9, $8, $10, $11, $12, $8)
            """,
            uuid5(NAMESPACE_URL, row.user_id),
            row.user_id,
            f"user:{row.user_id}",
            plan,
            row.status,
            None if on_trial else "stripe",
            row.stripe_subscription_id,
            LONG_AGO,
            LONG_AGO + timedelta(days=30),
            row.current_period_end,
            row.cancel_at_period_end,
            LONG_AGO if row.status in ("past_due", "unpaid") else None,
        )

    async def _send_mails(self) -> None:
        sender = "Bursar <billing@example.com>"
        smtp = SmtpMail(SmtpSettings(self._outside.smtp_host, self._outside.smtp_port, sender, starttls=False))
        due = [(user, mail_type) for user, row in self._rows.items() for mail_type in expected_mails(row)]
        for user, mail_type in due + (due[:1] if "mails_twice" in self._flaws else []):
            mail = OutgoingMail(
                user + mail_type, mail_type, "Hello", "<p>Hello</p>", "Hello", f"{user}@example.com", LONG_AGO
            )
            await smtp.send(mail)

    async def _operate_instances(self) -> None:
        ended = [user for user, row in at_the_end(self._rows).items() if row.status != "active"]
        async with instances_client() as client:
            gateway = InstancesGateway(self._outside.instances_url, API_SECRET, client=client)
            for user in ended[("forgets_instance" in self._flaws) :]:
                await gateway.bring_about(instance_of(user), "stopped", 2, f"stop:{user}")
                await gateway.bring_about(instance_of(user), "destroyed", 3, f"destroy:{user}")

    async def _park(self) -> None:
        await self._pool.execute(
            """
            INSERT INTO parked_messages
                (message_id, type, headers, body, state, error, attempts, first_failed_at, last_failed_at)
            VALUES ('m', 't', '{}', '', 'parked', 'broken', 4, now(), now())
            """
        )
