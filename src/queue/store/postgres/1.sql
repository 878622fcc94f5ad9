-- Times are microseconds since 1970 (UTC). Everything stands in a schema of its own.

-- Numbers that are kept: the last event, and a moment before which nothing waits for its time.
CREATE TABLE numbers (name TEXT PRIMARY KEY, last BIGINT NOT NULL) WITH (fillfactor = 20);
INSERT INTO numbers VALUES ('event', 0), ('due', 0);

-- Queues, tenants, skills: what can be paused and bounded.
CREATE TABLE scopes (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL,
    paused        BOOLEAN NOT NULL DEFAULT false,
    concurrency   BIGINT,
    rate_count    BIGINT,
    rate_period   BIGINT,
    rate_arrival  BIGINT,
    weight        BIGINT NOT NULL DEFAULT 1,
    clock         BIGINT NOT NULL DEFAULT 0,
    closed_until  BIGINT NOT NULL DEFAULT 0,
    "full"        BOOLEAN NOT NULL DEFAULT false,
    UNIQUE (kind, name)
) WITH (fillfactor = 50);
CREATE INDEX scopes_closed ON scopes (closed_until) WHERE closed_until > 0;

-- One tenant in one queue.
CREATE TABLE shares (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue         BIGINT NOT NULL,
    tenant        BIGINT NOT NULL,
    virtual_time  BIGINT NOT NULL DEFAULT 0,
    -- Lanes of it that have jobs in line.
    waiting       BIGINT NOT NULL DEFAULT 0,
    closed        BOOLEAN NOT NULL DEFAULT false,
    UNIQUE (queue, tenant)
) WITH (fillfactor = 50);
CREATE INDEX shares_open ON shares (queue, virtual_time, id) WHERE waiting > 0 AND NOT closed;
CREATE INDEX shares_of_tenant ON shares (tenant);

-- One tenant and one skill in one queue.
CREATE TABLE lanes (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    share    BIGINT NOT NULL,
    queue    BIGINT NOT NULL,
    tenant   BIGINT NOT NULL,
    skill    BIGINT NOT NULL,
    waiting  BOOLEAN NOT NULL DEFAULT false,
    -- No job in line has a lower rank: a claim begins to look there, and not among the remains of
    -- those that were taken before.
    low      BIGINT NOT NULL DEFAULT -9223372036854775808,
    UNIQUE (share, skill)
) WITH (fillfactor = 50);
CREATE INDEX lanes_waiting ON lanes (share, low, id) WHERE waiting;

-- Where jobs stand.
CREATE TABLE jobs (
    seq               BIGINT PRIMARY KEY,
    id                UUID NOT NULL UNIQUE,
    lane              BIGINT NOT NULL,
    kind              TEXT NOT NULL,
    status            TEXT NOT NULL,
    cause             TEXT,
    priority          TEXT NOT NULL,
    attempts          BIGINT NOT NULL,
    max_attempts      BIGINT NOT NULL,
    fence             BIGINT NOT NULL,
    worker            UUID,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL,
    scheduled_at      BIGINT NOT NULL,
    due_at            BIGINT NOT NULL,
    started_at        BIGINT,
    completed_at      BIGINT,
    deadline          BIGINT,
    cancel_requested  BOOLEAN NOT NULL,
    flags             BIGINT NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE SEQUENCE job_numbers OWNED BY jobs.seq;
CREATE INDEX jobs_by_status ON jobs (status, seq) WHERE status <> 'completed';
CREATE INDEX jobs_of_worker ON jobs (worker) WHERE worker IS NOT NULL;
CREATE INDEX jobs_with_deadline ON jobs (deadline)
    WHERE deadline IS NOT NULL AND status IN ('pending', 'failed', 'paused');
CREATE INDEX jobs_by_end ON jobs (status, completed_at, seq) WHERE completed_at IS NOT NULL;

-- What does not change of them.
CREATE TABLE bodies (seq BIGINT PRIMARY KEY, submitted TEXT NOT NULL, retry TEXT NOT NULL);

CREATE TABLE results (seq BIGINT PRIMARY KEY, result TEXT NOT NULL);
CREATE TABLE progress (seq BIGINT PRIMARY KEY, progress TEXT NOT NULL) WITH (fillfactor = 50);

CREATE TABLE attempts (
    job      BIGINT NOT NULL,
    fence    BIGINT NOT NULL,
    number   BIGINT NOT NULL,
    counted  BOOLEAN NOT NULL,
    worker   UUID NOT NULL,
    started  BIGINT NOT NULL,
    ended    BIGINT NOT NULL,
    status   TEXT NOT NULL,
    details  TEXT NOT NULL,
    PRIMARY KEY (job, fence)
);

CREATE TABLE keys (
    tenant  TEXT COLLATE "C" NOT NULL,
    "key"   TEXT COLLATE "C" NOT NULL,
    job     UUID NOT NULL,
    until   BIGINT,
    PRIMARY KEY (tenant, "key")
);
CREATE INDEX keys_of_job ON keys (job);

CREATE TABLE tags (tag TEXT NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (tag, seq));
CREATE INDEX tags_of_job ON tags (seq);

-- Jobs in line, and jobs whose time has not come. What was taken from their heads leaves remains in
-- the index until it is vacuumed: so it is vacuumed often, and nobody begins to look there.
CREATE TABLE ready (
    lane      BIGINT NOT NULL,
    rank      BIGINT NOT NULL,
    seq       BIGINT NOT NULL,
    PRIMARY KEY (lane, rank, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0);
CREATE TABLE later (
    due_at    BIGINT NOT NULL,
    seq       BIGINT NOT NULL,
    lane      BIGINT NOT NULL,
    priority  TEXT NOT NULL,
    PRIMARY KEY (due_at, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0);

-- Changes of what everybody would write, put aside by transactions that run side by side. By the
-- number of the transaction: what is before the oldest that runs has been taken, all of it.
CREATE TABLE inbox (
    transaction  XID8 NOT NULL DEFAULT pg_current_xact_id(),
    id           BIGINT GENERATED ALWAYS AS IDENTITY,
    tally        BYTEA NOT NULL,
    changes      BYTEA NOT NULL,
    PRIMARY KEY (transaction, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0, toast.autovacuum_vacuum_scale_factor = 0,
        toast.autovacuum_vacuum_threshold = 1000);

CREATE TABLE counters (
    kind    TEXT COLLATE "C" NOT NULL,
    number  BIGINT NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    value   BIGINT NOT NULL,
    PRIMARY KEY (kind, number, name)
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);

CREATE TABLE events (
    id       BIGINT PRIMARY KEY,
    job      UUID NOT NULL,
    kind     TEXT NOT NULL,
    at       BIGINT NOT NULL,
    attempt  BIGINT,
    data     TEXT NOT NULL
);

CREATE TABLE workers (
    id           UUID PRIMARY KEY,
    name         TEXT NOT NULL,
    started      BIGINT NOT NULL,
    lease_until  BIGINT NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX workers_by_lease ON workers (lease_until);

CREATE TABLE schedules (
    name        TEXT COLLATE "C" PRIMARY KEY,
    recurrence  TEXT NOT NULL,
    job         TEXT NOT NULL,
    created     BIGINT NOT NULL,
    last        BIGINT,
    next        BIGINT
);
CREATE INDEX schedules_by_next ON schedules (next) WHERE next IS NOT NULL;

-- How jobs are tried again that do not say so themselves.
CREATE TABLE policies (
    kind    TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    policy  TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);
