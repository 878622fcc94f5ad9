-- The job of each priority that has been due longest, of each lane.
CREATE INDEX jobs_waiting ON jobs (lane, priority, due_at) WHERE status IN ('pending', 'failed');

-- What runs in the last attempt at a job, under which limits and with which grants: of one whose worker
-- dies, nothing else is known.
CREATE TABLE admissions (
    seq      BIGINT PRIMARY KEY,
    fence    BIGINT NOT NULL,
    details  TEXT NOT NULL
) WITH (fillfactor = 50);

-- What people did to a job. What workers did stands in its attempts.
CREATE INDEX events_of_people ON events (job, id) WHERE kind IN ('snoozed', 'paused', 'resumed',
    'approved', 'reprioritized', 'cancel_requested', 'cancelled', 'dead', 'replayed');
