-- What every domain stores with: where the database stands, what has changed, and what was answered already.

CREATE TABLE head (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    identity TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    compacted BIGINT NOT NULL
);

CREATE TABLE changes (
    sequence BIGINT PRIMARY KEY,
    domain TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    body BYTEA NOT NULL,
    at DOUBLE PRECISION NOT NULL
);

CREATE TABLE idempotency (
    tenant TEXT COLLATE "C" NOT NULL,
    caller TEXT COLLATE "C" NOT NULL,
    method TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL,
    response BYTEA NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (tenant, caller, method, key)
);

CREATE INDEX idempotency_expires ON idempotency (expires);
