-- what checks against Stripe report to the tick that asked for them, and which subscriptions a reconciliation saw
-- depends: 0001_main
-- migrate: apply

-- Counts of steps that end after the tick's own work. Apart from `counts`, which the lane writes whole.
ALTER TABLE tick_partitions ADD COLUMN reported jsonb;
CREATE INDEX tick_partitions_reported ON tick_partitions (began_at) WHERE reported IS NOT NULL;

CREATE TABLE reconciled (
    run uuid NOT NULL,
    stripe_subscription_id text NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (run, stripe_subscription_id)
);
CREATE INDEX reconciled_by_age ON reconciled (seen_at);

-- migrate: rollback

DROP TABLE reconciled;
DROP INDEX tick_partitions_reported;
ALTER TABLE tick_partitions DROP COLUMN reported;
