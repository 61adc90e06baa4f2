-- what a command answers is kept with its effect: whoever asks again after a crash is answered the same
-- depends: 0023_old_settlements
-- migrate: apply

ALTER TABLE idempotency
    -- None of a key that the release before claimed: its command is decided again where its answer was lost
    ADD COLUMN command_id text UNIQUE,
    -- what the decision answered; `answer` is what the request made of it
    ADD COLUMN result jsonb;

-- migrate: rollback

ALTER TABLE idempotency DROP COLUMN result, DROP COLUMN command_id;
