-- users that were deleted (KC-120, KC-121): known again by a keyed digest only
-- depends: 0001_main
-- migrate: apply

-- Made here and nowhere else, so that an export of the other tables tells nobody whom a tombstone stands for.
CREATE TABLE erasure_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key bytea NOT NULL CHECK (length(key) >= 32)
);
INSERT INTO erasure_key (key)
SELECT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');

-- Digests of account keys and of `subscription:{id}`: what names one of them comes too late.
CREATE TABLE erased (
    digest bytea PRIMARY KEY,
    erased_at timestamptz NOT NULL
);

-- migrate: rollback

DROP TABLE erased, erasure_key;
