-- refunds and lost disputes that came before their payment, in one table
-- depends: 0010_credits
-- migrate: apply

-- CR-11, MS-3: those whose payment the ledger does not know under any of these ids. It may come yet; most are of payments
-- that are none of our business.
CREATE TABLE credit_early_reversals (
    business_key text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('refund', 'dispute')),
    payment_ids text[] NOT NULL CHECK (cardinality(payment_ids) > 0),
    amount_microdollars bigint NOT NULL CHECK (amount_microdollars > 0),
    cause text NOT NULL,
    remembered_at timestamptz NOT NULL
);
CREATE INDEX credit_early_reversals_of_payment ON credit_early_reversals USING gin (payment_ids);
CREATE INDEX credit_early_reversals_by_age ON credit_early_reversals (remembered_at);
INSERT INTO credit_early_reversals
SELECT 'dispute:' || dispute_id, 'dispute', ARRAY[payment_id], amount_microdollars, cause, remembered_at
FROM credit_early_disputes;
DROP TABLE credit_early_disputes;

-- migrate: rollback

CREATE TABLE credit_early_disputes (
    dispute_id text PRIMARY KEY,
    payment_id text NOT NULL,
    amount_microdollars bigint NOT NULL CHECK (amount_microdollars > 0),
    cause text NOT NULL,
    remembered_at timestamptz NOT NULL
);
CREATE INDEX credit_early_disputes_of_payment ON credit_early_disputes (payment_id);
CREATE INDEX credit_early_disputes_by_age ON credit_early_disputes (remembered_at);
INSERT INTO credit_early_disputes
SELECT substr(business_key, 9), payment_ids[1], amount_microdollars, cause, remembered_at
FROM credit_early_reversals WHERE kind = 'dispute';
DROP TABLE credit_early_reversals;
