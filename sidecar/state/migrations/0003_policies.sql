-- Roles, groups, grants and policies, as policy.rows has them. Times are Unix seconds.

CREATE TABLE policy_items (
    kind TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL, -- that a grant gives; empty for others
    body BYTEA NOT NULL,
    version BIGINT NOT NULL,
    description TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    creator TEXT NOT NULL,
    updated DOUBLE PRECISION NOT NULL,
    updater TEXT NOT NULL,
    PRIMARY KEY (kind, tenant, name)
);

CREATE INDEX policy_items_of_role ON policy_items (tenant, role, name);

-- Whom grants name.
CREATE TABLE policy_members (
    tenant TEXT COLLATE "C" NOT NULL,
    member TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, member, name)
);

CREATE INDEX policy_members_of_grant ON policy_members (tenant, name);

-- What policies are and have been, deleted ones as well.
CREATE TABLE policy_versions (
    tenant TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    body BYTEA NOT NULL,
    description TEXT NOT NULL,
    updated DOUBLE PRECISION NOT NULL,
    updater TEXT NOT NULL,
    PRIMARY KEY (tenant, name, version)
);
