-- a mail that could not be handed over within its attempts is told apart from one that still waits
-- depends: 0001_main
-- migrate: apply

ALTER TABLE kiloclaw_email_log
    DROP CONSTRAINT kiloclaw_email_log_state_check,
    ADD CONSTRAINT kiloclaw_email_log_state_check
        CHECK (state IN ('pending', 'sent', 'skipped', 'rejected', 'unknown', 'dropped', 'failed'));

-- migrate: rollback

UPDATE kiloclaw_email_log SET state = 'rejected' WHERE state = 'failed';
ALTER TABLE kiloclaw_email_log
    DROP CONSTRAINT kiloclaw_email_log_state_check,
    ADD CONSTRAINT kiloclaw_email_log_state_check
        CHECK (state IN ('pending', 'sent', 'skipped', 'rejected', 'unknown', 'dropped'));
