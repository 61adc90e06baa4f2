-- accounts whose counters are not what their entries say, and how far the continuous check came
-- depends: 0010_credits
-- migrate: apply

-- CR-4: the counters less the sum of the entries. While one of a user's is open, no charge of theirs is posted.
CREATE TABLE credit_mismatches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL,
    acquired_difference_microdollars bigint NOT NULL,
    used_difference_microdollars bigint NOT NULL,
    found_at timestamptz NOT NULL,
    cleared_at timestamptz,
    cleared_by text,
    reason text,
    CONSTRAINT mismatch_is_one CHECK (acquired_difference_microdollars <> 0 OR used_difference_microdollars <> 0),
    CONSTRAINT cleared_by_somebody CHECK (
        (cleared_at IS NULL) = (cleared_by IS NULL) AND (cleared_at IS NULL) = (reason IS NULL))
);
CREATE UNIQUE INDEX credit_mismatches_open ON credit_mismatches (user_id) WHERE cleared_at IS NULL;
CREATE INDEX credit_mismatches_of_user ON credit_mismatches (user_id, id);

CREATE TABLE credit_audit (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    after_user_id text NOT NULL,
    moved_at timestamptz NOT NULL
);

CREATE FUNCTION credits_stop() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM posted JOIN credit_mismatches AS mismatch USING (user_id)
        WHERE posted.kind = 'charge' AND mismatch.cleared_at IS NULL
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'charges_are_stopped',
            TABLE = 'credit_transactions', MESSAGE = 'the counters of this user do not fit their entries';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER credits_stop AFTER INSERT ON credit_transactions REFERENCING NEW TABLE AS posted
    FOR EACH STATEMENT EXECUTE FUNCTION credits_stop();

-- migrate: rollback

DROP TRIGGER credits_stop ON credit_transactions;
DROP FUNCTION credits_stop;
DROP TABLE credit_audit, credit_mismatches;
