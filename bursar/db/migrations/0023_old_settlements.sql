-- a user's settlements by an earlier system (CR-54) are found without reading the whole ledger
-- depends: 0022_hot_renewals
-- migrate: apply

-- By `left` and not `LIKE`, for which the keys' own index would do as well: it holds them of all users.
CREATE INDEX credit_transactions_old_settlements ON credit_transactions (user_id, id)
    WHERE left(business_key, 20) = 'kiloclaw-settlement:';

-- migrate: rollback
DROP INDEX credit_transactions_old_settlements;
