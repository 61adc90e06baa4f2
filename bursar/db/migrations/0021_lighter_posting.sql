-- the counters move in one statement instead of three, and overdrafts are looked for only where something is charged
-- depends: 0010_credits
-- migrate: apply

-- CR-1, CR-2, once per statement: pairs are neutral, the counters move, in the order of the users, and no charge overdraws, taken in
-- the order of the entries.
CREATE OR REPLACE FUNCTION credits_post() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM posted WHERE kind IN ('settlement_deposit', 'settlement_charge')
        GROUP BY user_id, payment_id HAVING sum(amount_microdollars) <> 0
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'settlement_is_neutral',
            TABLE = 'credit_transactions', MESSAGE = 'a settlement is a pair of entries whose sum is nothing';
    END IF;
    INSERT INTO credit_accounts AS account (user_id, acquired_microdollars, used_microdollars)
    SELECT user_id,
        sum(CASE WHEN kind IN ('charge', 'settlement_charge') THEN 0 ELSE amount_microdollars END),
        sum(CASE WHEN kind IN ('charge', 'settlement_charge') THEN -amount_microdollars ELSE 0 END)
    FROM posted GROUP BY user_id ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET
        acquired_microdollars = account.acquired_microdollars + excluded.acquired_microdollars,
        used_microdollars = account.used_microdollars + excluded.used_microdollars;
    IF EXISTS (SELECT FROM posted WHERE kind = 'charge') AND EXISTS (
        SELECT FROM (
            SELECT kind, account.acquired_microdollars - account.used_microdollars - coalesce(sum(amount_microdollars)
                OVER (PARTITION BY posted.user_id ORDER BY id ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING), 0) AS left
            FROM posted JOIN credit_accounts AS account USING (user_id)) AS entries
        WHERE kind = 'charge' AND entries.left < 0
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'charge_within_balance',
            TABLE = 'credit_transactions', MESSAGE = 'a charge leaves no balance below zero';
    END IF;
    RETURN NULL;
END $$;

-- migrate: rollback

CREATE OR REPLACE FUNCTION credits_post() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM posted WHERE kind IN ('settlement_deposit', 'settlement_charge')
        GROUP BY user_id, payment_id HAVING sum(amount_microdollars) <> 0
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'settlement_is_neutral',
            TABLE = 'credit_transactions', MESSAGE = 'a settlement is a pair of entries whose sum is nothing';
    END IF;
    INSERT INTO credit_accounts (user_id) SELECT DISTINCT user_id FROM posted ORDER BY user_id ON CONFLICT DO NOTHING;
    PERFORM FROM credit_accounts WHERE user_id IN (SELECT user_id FROM posted) ORDER BY user_id FOR UPDATE;
    UPDATE credit_accounts AS account SET
        acquired_microdollars = acquired_microdollars + moved.acquired,
        used_microdollars = used_microdollars + moved.used
    FROM (
        SELECT user_id,
            sum(CASE WHEN kind IN ('charge', 'settlement_charge') THEN 0 ELSE amount_microdollars END) AS acquired,
            sum(CASE WHEN kind IN ('charge', 'settlement_charge') THEN -amount_microdollars ELSE 0 END) AS used
        FROM posted GROUP BY user_id) AS moved
    WHERE moved.user_id = account.user_id;
    IF EXISTS (
        SELECT FROM (
            SELECT kind, account.acquired_microdollars - account.used_microdollars - coalesce(sum(amount_microdollars)
                OVER (PARTITION BY posted.user_id ORDER BY id ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING), 0) AS left
            FROM posted JOIN credit_accounts AS account USING (user_id)) AS entries
        WHERE kind = 'charge' AND entries.left < 0
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'charge_within_balance',
            TABLE = 'credit_transactions', MESSAGE = 'a charge leaves no balance below zero';
    END IF;
    RETURN NULL;
END $$;
