-- what the sweep of earlybird warnings scans
-- depends: 0001_main
-- migrate: apply

-- Every purchase was decided under its account's lock, so the account's row is there.
ALTER TABLE kiloclaw_earlybird_purchases
    ADD COLUMN account_key text REFERENCES accounts (key),
    ADD COLUMN partition integer;
UPDATE kiloclaw_earlybird_purchases AS purchase SET account_key = accounts.key, partition = accounts.partition
FROM accounts WHERE accounts.key = 'user:' || purchase.user_id;
ALTER TABLE kiloclaw_earlybird_purchases
    ALTER COLUMN account_key SET NOT NULL,
    ALTER COLUMN partition SET NOT NULL;
CREATE UNIQUE INDEX kiloclaw_earlybirds_due ON kiloclaw_earlybird_purchases (partition, account_key);

-- migrate: rollback

DROP INDEX kiloclaw_earlybirds_due;
ALTER TABLE kiloclaw_earlybird_purchases DROP COLUMN partition, DROP COLUMN account_key;
