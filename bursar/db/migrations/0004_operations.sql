-- the journal and the result of operations at Stripe, one at a time for each account
-- depends: 0001_main
-- migrate: apply

ALTER TABLE steps
    -- what happened so far: the calls with their answers
    ADD COLUMN journal jsonb,
    -- what whoever asks again is told: {"result": …} or {"failure": {code, message, status}}
    ADD COLUMN result jsonb;
CREATE UNIQUE INDEX steps_one_operation ON steps (account_key) WHERE kind = 'operation' AND state = 'due';

-- migrate: rollback

DROP INDEX steps_one_operation;
ALTER TABLE steps DROP COLUMN result, DROP COLUMN journal;
