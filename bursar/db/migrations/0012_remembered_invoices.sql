-- what settling needs of a paid invoice that came before its subscription
-- depends: 0001_main
-- migrate: apply

ALTER TABLE early_events ADD COLUMN paid_period jsonb;

-- migrate: rollback

ALTER TABLE early_events DROP COLUMN paid_period;
