-- API keys as identity.keys_model has them. Times are Unix seconds; Infinity is never, 0 for not yet.

CREATE TABLE api_keys (
    key_id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    title TEXT NOT NULL,
    permissions TEXT NOT NULL, -- a JSON list, as the next
    resources TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    rate TEXT NOT NULL,
    auto_rotate BIGINT NOT NULL,
    line TEXT COLLATE "C" NOT NULL,
    rotated_to TEXT COLLATE "C" NOT NULL,
    overlap_ends DOUBLE PRECISION NOT NULL,
    revoked DOUBLE PRECISION NOT NULL,
    hash_key TEXT NOT NULL,
    hash BYTEA NOT NULL, -- empty while nobody has the key
    last_used DOUBLE PRECISION NOT NULL,
    due DOUBLE PRECISION NOT NULL -- from when a successor is to be prepared
);

CREATE INDEX api_keys_of_tenant ON api_keys (tenant, key_id);

CREATE INDEX api_keys_of_owner ON api_keys (tenant, owner, key_id);

CREATE INDEX api_keys_due ON api_keys (due);
