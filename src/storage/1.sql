-- Whose data it is. A tenant is written with a `=` before it, so that none is not an empty one.
CREATE TABLE owner (
    id INTEGER PRIMARY KEY,
    skill TEXT NOT NULL,
    tenant TEXT NOT NULL,
    keys INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    -- Of the last change. No two states of a key have the same.
    version INTEGER NOT NULL DEFAULT 0,
    UNIQUE (skill, tenant)
) STRICT;

CREATE TABLE entry (
    -- Of all owners together, so that it tells what others keep: no guest hears of it.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL REFERENCES owner,
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (owner, bucket, key)
) STRICT;
