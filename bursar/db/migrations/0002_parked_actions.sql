-- what operators did with parked messages, who and why
-- depends: 0001_main
-- migrate: apply

CREATE TABLE parked_actions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parked_id bigint NOT NULL REFERENCES parked_messages (id),
    action text NOT NULL CHECK (action IN ('replay', 'discard')),
    actor text NOT NULL CHECK (actor <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    -- why a replay failed; the message stayed parked then
    error text CHECK (error IS NULL OR action = 'replay'),
    acted_at timestamptz NOT NULL
);
CREATE INDEX parked_actions_of_message ON parked_actions (parked_id);

-- migrate: rollback

DROP TABLE parked_actions;
