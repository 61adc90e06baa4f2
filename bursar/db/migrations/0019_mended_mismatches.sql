-- a difference that was accepted, put right and comes again is a new one
-- depends: 0014_credit_audit
-- migrate: apply

-- CR-4: set once the account fits its entries again after an operator had cleared the mismatch.
ALTER TABLE credit_mismatches
    ADD COLUMN mended_at timestamptz,
    ADD CONSTRAINT mended_after_it_was_cleared CHECK (mended_at IS NULL OR cleared_at IS NOT NULL);
CREATE INDEX credit_mismatches_accepted ON credit_mismatches (user_id)
    WHERE cleared_at IS NOT NULL AND mended_at IS NULL;

-- migrate: rollback

DROP INDEX credit_mismatches_accepted;
ALTER TABLE credit_mismatches DROP COLUMN mended_at;
