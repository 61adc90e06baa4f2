-- a key without an answer stays its body's own, and one that is used anew after its time is another command's
-- depends: 0001_main
-- migrate: apply

ALTER TABLE idempotency
    -- when the key was first used: the command's id is made of it. None of what the release before wrote: `created_at`
    ADD COLUMN began_at timestamptz,
    -- given back without an answer that may be kept
    ADD COLUMN released boolean NOT NULL DEFAULT false;

-- migrate: rollback

DELETE FROM idempotency WHERE released;
ALTER TABLE idempotency DROP COLUMN released, DROP COLUMN began_at;
