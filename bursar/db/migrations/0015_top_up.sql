-- the boundary for which a row's automatic top-up was tried
-- depends: 0010_credits
-- migrate: apply

-- CR-38: written before the top-up is started, and gone once the period advances or the row is canceled (CR-40).
ALTER TABLE kiloclaw_subscriptions ADD COLUMN top_up_boundary timestamptz;

-- migrate: rollback

ALTER TABLE kiloclaw_subscriptions DROP COLUMN top_up_boundary;
