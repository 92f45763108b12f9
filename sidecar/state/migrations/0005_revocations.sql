-- Tokens and certificates that were taken back, as identity.revocations_model has them. Times are Unix seconds; Infinity
-- is never, or any time.

CREATE TABLE revocations (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    kind TEXT NOT NULL,
    issuer TEXT NOT NULL,
    name TEXT NOT NULL,
    issued_before DOUBLE PRECISION NOT NULL,
    revoked DOUBLE PRECISION NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    revoker TEXT NOT NULL,
    reason TEXT NOT NULL
);

CREATE INDEX revocations_of_tenant ON revocations (tenant, id);

CREATE INDEX revocations_expire ON revocations (expires);
