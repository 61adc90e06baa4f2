-- renewals that fail for a reason nobody foresaw, and what operators did about them
-- depends: 0010_credits
-- migrate: apply

-- CR-60, CR-61: one for each row and boundary. The third failure makes it unresolved; operators settle it.
CREATE TABLE renewal_failures (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id uuid NOT NULL,
    account_key text NOT NULL,
    boundary timestamptz NOT NULL,
    category text NOT NULL,
    attempts integer NOT NULL CHECK (attempts > 0),
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    error text NOT NULL,
    state text NOT NULL CHECK (state IN ('retrying', 'unresolved', 'resolved', 'waived')),
    settled_at timestamptz,
    CONSTRAINT renewal_failure_of_a_boundary UNIQUE (subscription_id, boundary),
    CONSTRAINT failures_are_in_order CHECK (first_failed_at <= last_failed_at),
    CONSTRAINT settled_has_its_instant CHECK ((state IN ('resolved', 'waived')) = (settled_at IS NOT NULL))
);
CREATE INDEX renewal_failures_of_account ON renewal_failures (account_key);
CREATE INDEX renewal_failures_open ON renewal_failures (first_failed_at) WHERE state IN ('retrying', 'unresolved');

-- CR-63: who did what, and why.
CREATE TABLE renewal_failure_actions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    failure_id bigint NOT NULL REFERENCES renewal_failures (id) ON DELETE CASCADE,
    action text NOT NULL CHECK (action IN ('retry', 'resolve', 'waive')),
    actor text NOT NULL CHECK (actor <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    error text,
    acted_at timestamptz NOT NULL
);
CREATE INDEX renewal_failure_actions_of_failure ON renewal_failure_actions (failure_id, id);

-- CR-63: a later boundary supersedes what is still open.
CREATE VIEW standing_renewal_failures AS
SELECT failure.id, failure.subscription_id, failure.account_key, failure.boundary, failure.category, failure.attempts,
    failure.first_failed_at, failure.last_failed_at, failure.error, failure.settled_at,
    CASE WHEN failure.state IN ('retrying', 'unresolved') AND NOT EXISTS (
        SELECT FROM kiloclaw_subscriptions AS row
        WHERE row.id = failure.subscription_id AND row.credit_renewal_at = failure.boundary)
    THEN 'superseded' ELSE failure.state END AS state
FROM renewal_failures AS failure;

-- migrate: rollback

DROP VIEW standing_renewal_failures;
DROP TABLE renewal_failure_actions, renewal_failures;
