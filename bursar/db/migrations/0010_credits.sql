-- the credit ledger, which keeps its own rules; what pays a row from it
-- depends: 0001_main
-- migrate: apply

-- CR-1: what a user acquired and used so far. Only an entry of the ledger moves it, in the statement that adds the entry.
CREATE TABLE credit_accounts (
    user_id text PRIMARY KEY,
    acquired_microdollars bigint NOT NULL DEFAULT 0,
    used_microdollars bigint NOT NULL DEFAULT 0
);

-- Deposits and what is taken back of them (refund, dispute) move `acquired`, charges move `used`. A settlement is a pair whose sum is
-- nothing: one half moves the one, the other half the other. `payment_id` is Stripe's id of the payment, where there is one.
CREATE TABLE credit_transactions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL REFERENCES credit_accounts (user_id) DEFERRABLE INITIALLY DEFERRED,
    amount_microdollars bigint NOT NULL,
    kind text NOT NULL,
    description text NOT NULL CHECK (description <> ''),
    business_key text NOT NULL CONSTRAINT credit_transactions_business_key UNIQUE,
    payment_id text,
    cause text NOT NULL CHECK (cause <> ''),
    created_at timestamptz NOT NULL,
    CONSTRAINT entry_has_a_known_kind CHECK (
        kind IN ('deposit', 'charge', 'refund', 'dispute', 'settlement_deposit', 'settlement_charge')),
    CONSTRAINT entry_has_the_sign_of_its_kind CHECK (CASE kind
        WHEN 'deposit' THEN amount_microdollars > 0
        WHEN 'charge' THEN amount_microdollars < 0
        WHEN 'refund' THEN amount_microdollars < 0
        WHEN 'dispute' THEN amount_microdollars < 0
        ELSE amount_microdollars <> 0 END),
    CONSTRAINT payment_is_named CHECK ((kind = 'charge') = (payment_id IS NULL))
);
CREATE INDEX credit_transactions_of_user ON credit_transactions (user_id, id);
CREATE INDEX credit_transactions_of_payment ON credit_transactions (payment_id)
    WHERE kind IN ('deposit', 'settlement_deposit');

-- CR-1, CR-2, once per statement: pairs are neutral, the counters move, and no charge overdraws, taken in the order of the entries.
CREATE FUNCTION credits_post() RETURNS trigger LANGUAGE plpgsql AS $$
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

-- CR-1: entries and counters are never changed but by their own rules. The one change of an entry is that of its user's id, by
-- credits_bury (KC-121), which says so in `bursar.tombstone`.
CREATE FUNCTION credits_burying() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('bursar.tombstone', true), '')
$$;
CREATE FUNCTION credits_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation', CONSTRAINT = 'credits_are_append_only', TABLE = TG_TABLE_NAME,
        MESSAGE = format('%s on %s: the ledger is append-only, and only its entries move the counters', TG_OP, TG_TABLE_NAME);
END $$;

CREATE TRIGGER credits_post AFTER INSERT ON credit_transactions REFERENCING NEW TABLE AS posted
    FOR EACH STATEMENT EXECUTE FUNCTION credits_post();
CREATE TRIGGER credits_entry_stays BEFORE UPDATE ON credit_transactions FOR EACH ROW
    WHEN (NEW.user_id IS DISTINCT FROM credits_burying()
        OR (to_jsonb(NEW) - 'user_id') IS DISTINCT FROM (to_jsonb(OLD) - 'user_id'))
    EXECUTE FUNCTION credits_refuse();
CREATE TRIGGER credits_entry_is_kept BEFORE DELETE ON credit_transactions FOR EACH ROW EXECUTE FUNCTION credits_refuse();
CREATE TRIGGER credits_entries_are_kept BEFORE TRUNCATE ON credit_transactions EXECUTE FUNCTION credits_refuse();
-- At depth 0 nothing but a statement of the outside asks; inside credits_post it is 1.
CREATE TRIGGER credits_counters_move_with_entries BEFORE INSERT OR UPDATE ON credit_accounts FOR EACH ROW
    WHEN (pg_trigger_depth() = 0 AND NEW.user_id IS DISTINCT FROM credits_burying()) EXECUTE FUNCTION credits_refuse();
CREATE TRIGGER credits_account_is_kept BEFORE DELETE ON credit_accounts FOR EACH ROW
    WHEN (credits_burying() IS NULL) EXECUTE FUNCTION credits_refuse();
CREATE TRIGGER credits_accounts_are_kept BEFORE TRUNCATE ON credit_accounts EXECUTE FUNCTION credits_refuse();

-- KC-121: the ledger of a deleted user stays, under a tombstone instead of the id; who comes back and is deleted again has the same
-- one. Returns how many entries moved there.
CREATE FUNCTION credits_bury(buried text, tombstone text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    moved bigint;
BEGIN
    PERFORM set_config('bursar.tombstone', tombstone, true);
    INSERT INTO credit_accounts AS known
    SELECT tombstone, acquired_microdollars, used_microdollars FROM credit_accounts WHERE user_id = buried
    ON CONFLICT (user_id) DO UPDATE SET
        acquired_microdollars = known.acquired_microdollars + excluded.acquired_microdollars,
        used_microdollars = known.used_microdollars + excluded.used_microdollars;
    UPDATE credit_transactions SET user_id = tombstone WHERE user_id = buried;
    GET DIAGNOSTICS moved = ROW_COUNT;
    DELETE FROM credit_accounts WHERE user_id = buried;
    PERFORM set_config('bursar.tombstone', '', true);
    RETURN moved;
END $$;

-- CR-11: lost disputes whose payment the ledger does not know. It may come yet; most are of payments that are none of our business.
CREATE TABLE credit_early_disputes (
    dispute_id text PRIMARY KEY,
    payment_id text NOT NULL,
    amount_microdollars bigint NOT NULL CHECK (amount_microdollars > 0),
    cause text NOT NULL,
    remembered_at timestamptz NOT NULL
);
CREATE INDEX credit_early_disputes_of_payment ON credit_early_disputes (payment_id);
CREATE INDEX credit_early_disputes_by_age ON credit_early_disputes (remembered_at);

-- The instant whose day of the month a row's periods keep: 31 January, 28 February, 31 March.
ALTER TABLE kiloclaw_subscriptions ADD COLUMN credit_anchor_at timestamptz;
-- What the sweep of renewals scans (CR-30).
CREATE INDEX kiloclaw_renewals_due ON kiloclaw_subscriptions (partition, credit_renewal_at, account_key)
    WHERE payment_source = 'credits' AND stripe_subscription_id IS NULL AND status IN ('active', 'past_due');

-- migrate: rollback

DROP INDEX kiloclaw_renewals_due;
ALTER TABLE kiloclaw_subscriptions DROP COLUMN credit_anchor_at;
DROP FUNCTION credits_bury;
DROP TABLE credit_early_disputes, credit_transactions, credit_accounts;
DROP FUNCTION credits_post, credits_refuse, credits_burying;
