-- accounts, messages, steps and the subscriptions of hosted instances
-- depends:
-- migrate: apply

CREATE TABLE topology (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions integer NOT NULL CHECK (partitions BETWEEN 1 AND 1024)
);

CREATE TABLE business_clock (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    stands_at timestamptz NOT NULL
);

CREATE TABLE workers (
    worker_id text PRIMARY KEY,
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL
);

-- The row that is locked: every decision about an account begins by locking it, in the order of the keys.
CREATE TABLE accounts (
    key text PRIMARY KEY CHECK (key <> ''),
    partition integer NOT NULL CHECK (partition >= 0),
    version bigint NOT NULL DEFAULT 0
);

CREATE TABLE inbox (
    message_id text PRIMARY KEY,
    received_at timestamptz NOT NULL
);
CREATE INDEX inbox_by_age ON inbox USING brin (received_at);

CREATE TABLE parked_messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text NOT NULL UNIQUE,
    account_key text,
    type text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('retrying', 'parked', 'replayed', 'discarded')),
    error text NOT NULL,
    attempts integer NOT NULL CHECK (attempts >= 1),
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    retry_at timestamptz,
    CHECK ((state = 'retrying') = (retry_at IS NOT NULL))
);
CREATE INDEX parked_messages_due ON parked_messages (retry_at) WHERE state = 'retrying';
CREATE INDEX parked_messages_open ON parked_messages (last_failed_at) WHERE state IN ('retrying', 'parked');

-- `due_at`, leases and attempts are in real time. A claim moves `due_at` to the lease's end, so that a dead runner's steps come due by themselves.
CREATE TABLE steps (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    account_key text NOT NULL REFERENCES accounts (key),
    kind text NOT NULL,
    payload jsonb NOT NULL,
    state text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'done', 'dropped', 'skipped', 'failed')),
    asked integer NOT NULL DEFAULT 1,
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    due_at timestamptz NOT NULL,
    lease uuid,
    -- set just before a call that must not be made twice: a claim that finds it set cannot know how that call ended
    calling boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    settled_at timestamptz,
    error text,
    cause text NOT NULL
);
CREATE INDEX steps_due ON steps (kind, due_at) WHERE state = 'due';
CREATE INDEX steps_open ON steps (state, created_at) WHERE state IN ('skipped', 'failed');
CREATE INDEX steps_of_account ON steps (account_key);

CREATE TABLE ticks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sweep text NOT NULL,
    due_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    -- once the messages to the partitions are published, and how many
    expanded_at timestamptz,
    partitions integer,
    UNIQUE (sweep, due_at)
);
CREATE INDEX ticks_unexpanded ON ticks (created_at) WHERE expanded_at IS NULL;
CREATE INDEX ticks_by_age ON ticks (created_at);

-- One row per tick and partition. `stage` numbers the sweeps of the tick in their order; `cursor` is how far that one came.
-- `cutoff` is the business time at which the partition began, `began_at` the real one.
CREATE TABLE tick_partitions (
    tick_id bigint NOT NULL REFERENCES ticks (id) ON DELETE CASCADE,
    partition integer NOT NULL,
    stage integer NOT NULL DEFAULT 0,
    cursor jsonb,
    counts jsonb NOT NULL DEFAULT '{}',
    cutoff timestamptz NOT NULL,
    began_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'superseded')),
    finished_at timestamptz,
    PRIMARY KEY (tick_id, partition)
);
CREATE INDEX tick_partitions_running ON tick_partitions (partition) WHERE state = 'running';

CREATE TABLE change_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_key text NOT NULL,
    entity text NOT NULL,
    entity_id text NOT NULL,
    before jsonb,
    after jsonb NOT NULL,
    cause text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    decided_at timestamptz NOT NULL
);
CREATE INDEX change_log_of_account ON change_log (account_key, id);

CREATE TABLE idempotency (
    scope text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    status integer,
    answer jsonb,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_at);

CREATE TABLE users (
    user_id text PRIMARY KEY,
    account_key text NOT NULL UNIQUE REFERENCES accounts (key),
    email text,
    name text,
    stripe_customer_id text UNIQUE,
    auto_top_up boolean NOT NULL DEFAULT false,
    deleted_at timestamptz
);

CREATE TABLE early_events (
    event_id text PRIMARY KEY,
    account_key text NOT NULL REFERENCES accounts (key),
    stripe_subscription_id text NOT NULL,
    stripe_customer_id text,
    type text NOT NULL,
    occurred_at timestamptz NOT NULL,
    remembered_at timestamptz NOT NULL
);
CREATE INDEX early_events_of_account ON early_events (account_key);
CREATE INDEX early_events_by_age ON early_events (remembered_at);

CREATE TABLE destruction_days (
    day date PRIMARY KEY,
    used integer NOT NULL CHECK (used >= 0)
);

CREATE TABLE kiloclaw_earlybird_purchases (
    user_id text PRIMARY KEY,
    payment_id text NOT NULL UNIQUE,
    purchased_at timestamptz NOT NULL
);

CREATE TABLE kiloclaw_instances (
    id text PRIMARY KEY,
    account_key text NOT NULL REFERENCES accounts (key),
    partition integer NOT NULL,
    created_at timestamptz NOT NULL,
    desired_state text NOT NULL CHECK (desired_state IN ('running', 'stopped', 'destroyed')),
    generation bigint NOT NULL CHECK (generation >= 1),
    done_generation bigint NOT NULL CHECK (done_generation >= 0),
    destroying_since timestamptz,
    destroyed_at timestamptz,
    -- how the runner fares with the newest generation, in real time
    wanted_since timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    lease uuid,
    leased_until timestamptz,
    error text,
    CHECK (done_generation <= generation),
    CHECK ((lease IS NULL) = (leased_until IS NULL)),
    CHECK (destroying_since IS NULL OR desired_state = 'destroyed'),
    CHECK (destroyed_at IS NULL OR desired_state = 'destroyed')
);
-- KC-2: at most one instance of an account that is not destroyed. Organizations own several (SE-43).
CREATE UNIQUE INDEX kiloclaw_instances_one_live ON kiloclaw_instances (account_key)
    WHERE destroyed_at IS NULL AND destroying_since IS NULL AND account_key LIKE 'user:%';
CREATE INDEX kiloclaw_instances_of_account ON kiloclaw_instances (account_key);
CREATE INDEX kiloclaw_instances_due ON kiloclaw_instances (due_at)
    WHERE generation > done_generation AND destroyed_at IS NULL;
CREATE INDEX kiloclaw_instances_stopped ON kiloclaw_instances (partition, account_key)
    WHERE desired_state = 'stopped' AND destroyed_at IS NULL AND destroying_since IS NULL;

CREATE TABLE kiloclaw_subscriptions (
    id uuid PRIMARY KEY,
    user_id text NOT NULL UNIQUE,
    account_key text NOT NULL UNIQUE REFERENCES accounts (key),
    partition integer NOT NULL,
    version bigint NOT NULL,
    plan text NOT NULL CHECK (plan IN ('trial', 'standard', 'commit')),
    status text NOT NULL CHECK (status IN ('trialing', 'active', 'past_due', 'canceled', 'unpaid')),
    payment_source text CHECK (payment_source IN ('stripe', 'credits')),
    stripe_subscription_id text UNIQUE,
    stripe_customer_id text,
    stripe_schedule_id text,
    instance_id text REFERENCES kiloclaw_instances (id),
    trial_started_at timestamptz,
    trial_ends_at timestamptz,
    current_period_start timestamptz,
    current_period_end timestamptz,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    commit_ends_at timestamptz,
    scheduled_plan text CHECK (scheduled_plan IN ('standard', 'commit')),
    scheduled_by text CHECK (scheduled_by IN ('auto', 'user')),
    credit_renewal_at timestamptz,
    settled_at timestamptz,
    past_due_since timestamptz,
    suspended_at timestamptz,
    destruction_deadline timestamptz,
    last_stripe_event_at timestamptz,
    last_read_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT trial_has_no_payment_source CHECK ((plan = 'trial') = (payment_source IS NULL)),
    CONSTRAINT trialing_is_a_trial CHECK (status <> 'trialing' OR plan = 'trial'),
    CONSTRAINT trial_is_trialing_or_canceled CHECK (plan <> 'trial' OR status IN ('trialing', 'canceled')),
    CONSTRAINT trial_has_both_instants
        CHECK (plan <> 'trial' OR (trial_started_at IS NOT NULL AND trial_ends_at IS NOT NULL)),
    CONSTRAINT trial_ends_after_it_starts CHECK (trial_ends_at > trial_started_at),
    CONSTRAINT direct_has_a_stripe_id CHECK (payment_source <> 'stripe' OR stripe_subscription_id IS NOT NULL),
    CONSTRAINT pure_credit_has_a_renewal CHECK (
        payment_source <> 'credits' OR stripe_subscription_id IS NOT NULL OR credit_renewal_at IS NOT NULL),
    CONSTRAINT paid_has_a_period
        CHECK (plan = 'trial' OR (current_period_start IS NOT NULL AND current_period_end IS NOT NULL)),
    CONSTRAINT dunning_has_a_beginning CHECK (status NOT IN ('past_due', 'unpaid') OR past_due_since IS NOT NULL),
    CONSTRAINT active_is_not_past_due CHECK (status NOT IN ('active', 'trialing', 'canceled') OR past_due_since IS NULL),
    CONSTRAINT active_is_not_suspended CHECK (status NOT IN ('active', 'trialing') OR suspended_at IS NULL),
    CONSTRAINT deadline_only_with_suspension CHECK (destruction_deadline IS NULL OR suspended_at IS NOT NULL),
    CONSTRAINT schedule_is_whole CHECK ((scheduled_plan IS NULL) = (scheduled_by IS NULL))
);
CREATE INDEX kiloclaw_subscriptions_of_customer ON kiloclaw_subscriptions (stripe_customer_id)
    WHERE stripe_customer_id IS NOT NULL;
-- What the sweeps scan: partition first, then the instant, then the key of the page.
CREATE INDEX kiloclaw_trials_due ON kiloclaw_subscriptions (partition, trial_ends_at, account_key)
    WHERE status = 'trialing';
CREATE INDEX kiloclaw_periods_due ON kiloclaw_subscriptions (partition, current_period_end, account_key)
    WHERE status = 'canceled' AND suspended_at IS NULL AND plan <> 'trial';
CREATE INDEX kiloclaw_dunning_due ON kiloclaw_subscriptions (partition, past_due_since, account_key)
    WHERE status IN ('past_due', 'unpaid') AND suspended_at IS NULL;
CREATE INDEX kiloclaw_destructions_due ON kiloclaw_subscriptions (partition, destruction_deadline, account_key)
    WHERE destruction_deadline IS NOT NULL;

CREATE TABLE kiloclaw_email_log (
    user_id text NOT NULL,
    account_key text NOT NULL REFERENCES accounts (key),
    email_type text NOT NULL,
    cycle text NOT NULL DEFAULT '',
    decided_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'skipped', 'rejected', 'unknown', 'dropped')),
    PRIMARY KEY (user_id, email_type, cycle)
);
CREATE INDEX kiloclaw_email_log_of_account ON kiloclaw_email_log (account_key);

-- migrate: rollback

DROP TABLE kiloclaw_email_log, kiloclaw_subscriptions, kiloclaw_instances, kiloclaw_earlybird_purchases, destruction_days,
    early_events, users, idempotency, change_log, tick_partitions, ticks, steps, parked_messages, inbox, accounts, workers,
    business_clock, topology;
