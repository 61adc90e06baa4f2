-- steps that ended are forgotten in time: what housekeeping scans
-- depends: 0001_main
-- migrate: apply

CREATE INDEX steps_settled ON steps (settled_at) WHERE state IN ('done', 'dropped');

-- migrate: rollback

DROP INDEX steps_settled;
