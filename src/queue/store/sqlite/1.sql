-- Times are microseconds since 1970 (UTC). Ids of jobs and workers are the 16 bytes of a UUID.

-- The last number that was given out, of each kind.
CREATE TABLE numbers (name TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO numbers VALUES ('job', 0), ('event', 0);

-- Queues, tenants, skills: what can be paused and bounded.
CREATE TABLE scopes (
    id            INTEGER PRIMARY KEY,
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL,
    paused        INTEGER NOT NULL DEFAULT 0,
    concurrency   INTEGER,
    rate_count    INTEGER,
    rate_period   INTEGER,
    rate_arrival  INTEGER,
    weight        INTEGER NOT NULL DEFAULT 1,
    clock         INTEGER NOT NULL DEFAULT 0,
    closed_until  INTEGER NOT NULL DEFAULT 0,
    "full"        INTEGER NOT NULL DEFAULT 0,
    UNIQUE (kind, name)
);
CREATE INDEX scopes_closed ON scopes (closed_until) WHERE closed_until > 0;

-- One tenant in one queue.
CREATE TABLE shares (
    id            INTEGER PRIMARY KEY,
    queue         INTEGER NOT NULL REFERENCES scopes,
    tenant        INTEGER NOT NULL REFERENCES scopes,
    virtual_time  INTEGER NOT NULL DEFAULT 0,
    -- Lanes of it that have jobs in line.
    waiting       INTEGER NOT NULL DEFAULT 0,
    closed        INTEGER NOT NULL DEFAULT 0,
    UNIQUE (queue, tenant)
);
CREATE INDEX shares_open ON shares (queue, virtual_time, id) WHERE waiting > 0 AND closed = 0;
CREATE INDEX shares_of_tenant ON shares (tenant);

-- One tenant and one skill in one queue.
CREATE TABLE lanes (
    id       INTEGER PRIMARY KEY,
    share    INTEGER NOT NULL REFERENCES shares,
    queue    INTEGER NOT NULL REFERENCES scopes,
    tenant   INTEGER NOT NULL REFERENCES scopes,
    skill    INTEGER NOT NULL REFERENCES scopes,
    waiting  INTEGER NOT NULL DEFAULT 0,
    -- No job in line has a lower rank: a claim looks into the lowest lanes of a share first.
    low      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (share, skill)
);
CREATE INDEX lanes_waiting ON lanes (share, low, id) WHERE waiting = 1;

-- Where jobs stand.
CREATE TABLE jobs (
    seq               INTEGER PRIMARY KEY,
    id                BLOB NOT NULL UNIQUE,
    lane              INTEGER NOT NULL,
    kind              TEXT NOT NULL,
    status            TEXT NOT NULL,
    cause             TEXT,
    priority          TEXT NOT NULL,
    attempts          INTEGER NOT NULL,
    max_attempts      INTEGER NOT NULL,
    fence             INTEGER NOT NULL,
    worker            BLOB,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    scheduled_at      INTEGER NOT NULL,
    due_at            INTEGER NOT NULL,
    started_at        INTEGER,
    completed_at      INTEGER,
    deadline          INTEGER,
    cancel_requested  INTEGER NOT NULL,
    flags             INTEGER NOT NULL
);
CREATE INDEX jobs_by_status ON jobs (status, seq) WHERE status <> 'completed';
CREATE INDEX jobs_of_worker ON jobs (worker) WHERE worker IS NOT NULL;
CREATE INDEX jobs_with_deadline ON jobs (deadline)
    WHERE deadline IS NOT NULL AND status IN ('pending', 'failed', 'paused');

CREATE INDEX jobs_by_end ON jobs (status, completed_at) WHERE completed_at IS NOT NULL;

-- What does not change of them.
CREATE TABLE bodies (seq INTEGER PRIMARY KEY, submitted TEXT NOT NULL, retry TEXT NOT NULL);

CREATE TABLE results (seq INTEGER PRIMARY KEY, result TEXT NOT NULL);
CREATE TABLE progress (seq INTEGER PRIMARY KEY, progress TEXT NOT NULL);

CREATE TABLE attempts (
    job      INTEGER NOT NULL,
    fence    INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    counted  INTEGER NOT NULL,
    worker   BLOB NOT NULL,
    started  INTEGER NOT NULL,
    ended    INTEGER NOT NULL,
    status   TEXT NOT NULL,
    details  TEXT NOT NULL,
    PRIMARY KEY (job, fence)
) WITHOUT ROWID;

CREATE TABLE keys (
    tenant  TEXT NOT NULL,
    "key"   TEXT NOT NULL,
    job     BLOB NOT NULL,
    until   INTEGER,
    PRIMARY KEY (tenant, "key")
) WITHOUT ROWID;
CREATE INDEX keys_of_job ON keys (job);

CREATE TABLE tags (tag TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (tag, seq)) WITHOUT ROWID;
CREATE INDEX tags_of_job ON tags (seq);

-- Jobs in line, and jobs whose time has not come.
CREATE TABLE ready (
    lane      INTEGER NOT NULL,
    rank      INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    PRIMARY KEY (lane, rank, seq)
) WITHOUT ROWID;
CREATE TABLE later (
    due_at    INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    lane      INTEGER NOT NULL,
    priority  TEXT NOT NULL,
    PRIMARY KEY (due_at, seq)
) WITHOUT ROWID;

CREATE TABLE counters (
    kind    TEXT NOT NULL,
    number  INTEGER NOT NULL,
    name    TEXT NOT NULL,
    value   INTEGER NOT NULL,
    PRIMARY KEY (kind, number, name)
) WITHOUT ROWID;

CREATE TABLE events (
    id       INTEGER PRIMARY KEY,
    job      BLOB NOT NULL,
    kind     TEXT NOT NULL,
    at       INTEGER NOT NULL,
    attempt  INTEGER,
    data     TEXT NOT NULL
);

CREATE TABLE workers (
    id           BLOB PRIMARY KEY,
    name         TEXT NOT NULL,
    started      INTEGER NOT NULL,
    lease_until  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX workers_by_lease ON workers (lease_until);

CREATE TABLE schedules (
    name        TEXT PRIMARY KEY,
    recurrence  TEXT NOT NULL,
    job         TEXT NOT NULL,
    created     INTEGER NOT NULL,
    last        INTEGER,
    next        INTEGER
) WITHOUT ROWID;
CREATE INDEX schedules_by_next ON schedules (next) WHERE next IS NOT NULL;

-- How jobs are tried again that do not say so themselves.
CREATE TABLE policies (
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    policy  TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
