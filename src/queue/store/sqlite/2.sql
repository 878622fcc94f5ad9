-- Approvals: what somebody was asked, and what they said. `until` is until when the status holds.
CREATE TABLE approvals (
    id          BLOB PRIMARY KEY,
    subject     BLOB NOT NULL,
    status      TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    skill       TEXT NOT NULL,
    job         BLOB,
    asked_at    INTEGER NOT NULL,
    until       INTEGER NOT NULL,
    once        INTEGER NOT NULL,
    decided_at  INTEGER,
    decided_by  TEXT,
    wanted      TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX approvals_by_subject ON approvals (subject);
CREATE INDEX approvals_pending ON approvals (tenant, until) WHERE status = 'pending';
CREATE INDEX approvals_of_job ON approvals (job) WHERE job IS NOT NULL;
CREATE INDEX approvals_by_end ON approvals (until);
