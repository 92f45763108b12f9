-- One-time credentials of first administrators, as identity.bootstrap_model has them. Times are Unix seconds.

CREATE TABLE bootstrap_credentials (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    made DOUBLE PRECISION NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    maker TEXT NOT NULL,
    beside BIGINT NOT NULL, -- 1 where it is good in a tenant that has an administrator
    claimed DOUBLE PRECISION NOT NULL, -- 0 for not
    claimant TEXT NOT NULL,
    claim TEXT NOT NULL -- id of the grant
);

CREATE INDEX bootstrap_credentials_of_tenant ON bootstrap_credentials (tenant, claimed);
