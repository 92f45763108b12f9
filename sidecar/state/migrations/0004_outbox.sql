-- Events of changes that are committed and may not be in the audit trail yet.

CREATE TABLE outbox (
    number BIGINT PRIMARY KEY,
    owner TEXT COLLATE "C" NOT NULL, -- the process that is to record it
    event TEXT NOT NULL -- JSON, as state.outbox has it
);

CREATE INDEX outbox_of_owner ON outbox (owner, number);

ALTER TABLE head ADD COLUMN outbox BIGINT NOT NULL DEFAULT 0;
