-- a paid period changes no column that an index knows, so that none of the table's indexes gets an entry for it
-- depends: 0021_lighter_posting
-- migrate: apply

-- Room on each page for a row's next version: only there it needs no entries of its own in the indexes.
ALTER TABLE kiloclaw_subscriptions SET (fillfactor = 80);
ALTER TABLE credit_accounts SET (fillfactor = 80);

-- The instants by which the sweeps find a row, and nothing as long as they have no business with it: these columns
-- stay null while `current_period_end` and `credit_renewal_at` of a subscription move from period to period.
ALTER TABLE kiloclaw_subscriptions
    ADD COLUMN expires_at timestamptz GENERATED ALWAYS AS (
        CASE WHEN status = 'canceled' AND suspended_at IS NULL AND plan <> 'trial' THEN current_period_end END
    ) STORED,
    ADD COLUMN renews_at timestamptz GENERATED ALWAYS AS (
        CASE WHEN payment_source = 'credits' AND stripe_subscription_id IS NULL AND status IN ('active', 'past_due')
            THEN credit_renewal_at END
    ) STORED;
DROP INDEX kiloclaw_periods_due, kiloclaw_renewals_due;
CREATE INDEX kiloclaw_periods_due ON kiloclaw_subscriptions (partition, expires_at, account_key)
    WHERE expires_at IS NOT NULL;
CREATE INDEX kiloclaw_renewals_due ON kiloclaw_subscriptions (partition, renews_at, account_key)
    WHERE renews_at IS NOT NULL;

-- migrate: rollback

DROP INDEX kiloclaw_periods_due, kiloclaw_renewals_due;
CREATE INDEX kiloclaw_periods_due ON kiloclaw_subscriptions (partition, current_period_end, account_key)
    WHERE status = 'canceled' AND suspended_at IS NULL AND plan <> 'trial';
CREATE INDEX kiloclaw_renewals_due ON kiloclaw_subscriptions (partition, credit_renewal_at, account_key)
    WHERE payment_source = 'credits' AND stripe_subscription_id IS NULL AND status IN ('active', 'past_due');
ALTER TABLE kiloclaw_subscriptions DROP COLUMN expires_at, DROP COLUMN renews_at;
ALTER TABLE kiloclaw_subscriptions RESET (fillfactor);
ALTER TABLE credit_accounts RESET (fillfactor);
