"""Bugs that people make, each as one replacement in the code: the simulation has to notice every one of them."""

from bursar.billing.values import Value


class Bug(Value):
    """`found` stands once in `file`, below `bursar/`; with `planted` in its place a rule is broken."""

    name: str
    file: str
    found: str
    planted: str
    seeds: int = 20  # within how many it is noticed


BUGS: tuple[Bug, ...] = (
    Bug(
        "acknowledged before the commit",
        "service/broker/lane.py",
        "        failures = 0\n",
        "        failures = 0\n        await self._acknowledge(taken)\n",
    ),
    Bug(
        "the machine's clock instead of the clock port",
        "service/deciding/decider.py",
        "return await decide_batch(connection, items, situation, self.limits, also, dry_run=dry_run)",
        "from bursar.db.clock import MachineClock\n\n"
        "                situation = await MachineClock().situation(connection)\n"
        "                return await decide_batch(connection, items, situation, self.limits, also, dry_run=dry_run)",
    ),
    Bug(
        "grace counted from the period instead of the first failure",
        "billing/credits/renewal.py",
        "    since = row.past_due_since or now",
        "    since = row.past_due_since or row.current_period_start or now",
        40,
    ),
    Bug(
        "a deposit keyed by its message",
        "billing/credits/deposits.py",
        'business_key = f"deposit:{payment_id}"',
        'business_key = f"deposit:{cause}:{amount}:{len(credits_of(account).entries)}"',
        60,
    ),
    Bug(
        "a renewal's charge without its boundary",
        "billing/credits/renewal.py",
        'return f"kiloclaw-renewal:{row.id}:{plan}:{boundary.isoformat()}"',
        'return f"kiloclaw-renewal:{row.id}:{plan}"',
    ),
    Bug(
        "a generation that does not grow",
        "billing/kiloclaw/rows.py",
        "desired_state=state, generation=self.generation + 1)",
        "desired_state=state)",
    ),
    Bug(
        "a suspension that stops nothing",
        "billing/kiloclaw/suspension.py",
        'instance.wanting("stopped") if instance else None',
        "instance",
    ),
    Bug(
        "a resume that starts nothing",
        "billing/kiloclaw/suspension.py",
        'instance.wanting("running") if instance else None',
        "instance",
        60,
    ),
    Bug(
        "destruction a day after the suspension",
        "billing/kiloclaw/suspension.py",
        "deadline = now + timedelta(days=catalogue.kiloclaw.grace.destruction_days)",
        "deadline = now + timedelta(days=1)",
    ),
    Bug(
        "a trial for whoever asks",
        "billing/kiloclaw/access.py",
        "return hosting.subscription is None and not hosting.instances and",
        "return hosting.subscription is None or",
    ),
    Bug(
        "trials that never end",
        "billing/kiloclaw/enforcement.py",
        "or not row.trial_ends_at or row.trial_ends_at >= facts.now:",
        "or not row.trial_ends_at or row.trial_ends_at + timedelta(days=999) >= facts.now:",
    ),
    Bug(
        "a suspension without its mail",
        "billing/kiloclaw/suspension.py",
        "return replace(sent, reason=reason,",
        "return replace(sent, account=stopped, steps=(), reason=reason,",
    ),
    Bug(
        "a change log without the instances",
        "db/change_log.py",
        "            if row is old:",
        '            if row is old or entity == "kiloclaw_instances":',
    ),
    Bug(
        "a mail log that outlives its user",
        "db/deletion.py",
        'await connection.execute("DELETE FROM kiloclaw_email_log WHERE account_key = $1", deletion.key)',
        "await connection.fetch(\"SELECT 1 WHERE $1 <> ''\", deletion.key)",
        60,
    ),
    Bug(
        "past due taken for active",
        "billing/kiloclaw/following.py",
        '"past_due": "past_due",',
        '"past_due": "active",',
        40,
    ),
    Bug(
        "the period that Stripe tells is not followed",
        "billing/kiloclaw/following.py",
        "current_period_end=_period_end(subscription, offer.item),",
        "current_period_end=row.current_period_end or offer.item.current_period_end,",
        40,
    ),
    Bug(
        "a mail handed over before that is noted",
        "service/steps/mails.py",
        "        await begin_call()\n        return _outcome(job, wanted, await self._send(outgoing))",
        "        return _outcome(job, wanted, await self._send(outgoing))",
        80,
    ),
    Bug(
        "a step that is never settled",
        "db/steps.py",
        "state = CASE WHEN steps.asked > answer.asked THEN 'due' ELSE answer.state END,",
        "state = 'due',",
    ),
    Bug(
        "retries that never end",
        "db/parked.py",
        "UPDATE parked_messages SET state = 'replayed', retry_at = NULL",
        "UPDATE parked_messages SET attempts = attempts",
        80,
    ),
    Bug(
        "what came early is forgotten",
        "billing/kiloclaw/stripe_events.py",
        "    known = (*hosting.early_events, early)",
        "    known = hosting.early_events",
        40,
    ),
    Bug(
        "a charge beyond the balance",
        "billing/credits/ledger.py",
        "if entry.kind is EntryKind.CHARGE and left < 0:",
        "if entry.kind is EntryKind.CHARGE and left < -10**12:",
    ),
    Bug(
        "a new idempotency key for each attempt",
        "service/steps/operations.py",
        'key = f"{step.key}:{step.asked}:{journal.round}:{call.name}"',
        'key = f"{step.key}:{step.asked}:{step.attempts}:{call.name}"',
        120,
    ),
    Bug(
        "a tick's message that is taken for done",
        "service/ticks/paging.py",
        "await ticks.begin_partition(connection, known.id, tick.partition, situation.now, situation.real_now)",
        "pass",
    ),
    Bug(
        "any account may be decided for by two at once",
        "db/accounts.py",
        '"SELECT key FROM accounts WHERE key = ANY($1::text[]) ORDER BY key FOR UPDATE", sorted(keys)',
        '"SELECT key FROM accounts WHERE key = ANY($1::text[]) ORDER BY key", sorted(keys)',
        120,
    ),
    Bug(
        "a message that is known is decided again",
        "db/decide.py",
        "Dedupe.INBOX: lambda item: item.id in new,",
        "Dedupe.INBOX: lambda _: True,",
        120,
    ),
)
