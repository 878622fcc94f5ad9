-- Approvals: what somebody was asked, and what they said. `until` is until when the status holds.
CREATE TABLE approvals (
    id          UUID PRIMARY KEY,
    subject     BYTEA NOT NULL,
    status      TEXT NOT NULL,
    tenant      TEXT COLLATE "C" NOT NULL,
    skill       TEXT COLLATE "C" NOT NULL,
    job         UUID,
    asked_at    BIGINT NOT NULL,
    until       BIGINT NOT NULL,
    once        BOOLEAN NOT NULL,
    decided_at  BIGINT,
    decided_by  TEXT,
    wanted      TEXT NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX approvals_by_subject ON approvals (subject);
CREATE INDEX approvals_pending ON approvals (tenant, until) WHERE status = 'pending';
CREATE INDEX approvals_of_job ON approvals (job) WHERE job IS NOT NULL;
CREATE INDEX approvals_by_end ON approvals (until);
