-- Lists of a queue, tenant or skill go by its lanes.
CREATE INDEX jobs_of_lane ON jobs (lane, seq);
CREATE INDEX jobs_dead_of_lane ON jobs (lane, seq) WHERE status = 'dead';

-- Since when workers have given a job back one after the other, because they lack what it takes.
ALTER TABLE jobs ADD COLUMN lacking_since BIGINT;

-- Callbacks that are on their way, by what they tell of: that is kept as long.
CREATE TABLE callbacks (seq BIGINT PRIMARY KEY, job BIGINT NOT NULL);
CREATE INDEX callbacks_of_job ON callbacks (job);

CREATE INDEX keys_by_until ON keys (until) WHERE until IS NOT NULL;

-- Approvals that a job waits for, or may come to wait for.
ALTER TABLE approvals ADD COLUMN awaited BOOLEAN NOT NULL DEFAULT false;
UPDATE approvals SET awaited = true WHERE job IS NOT NULL AND status <> 'used';
CREATE INDEX approvals_awaited ON approvals (status, until) WHERE awaited;

-- Whose a schedule is, and its job without what may be large of it.
ALTER TABLE schedules ADD COLUMN tenant TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE schedules ADD COLUMN outline TEXT;
-- To take one field out, every text of the document is read, and PostgreSQL has no NUL in texts.
UPDATE schedules SET tenant = coalesce(replace(job, '\u0000', '\ufffd')::json ->> 'tenant', '');
CREATE INDEX schedules_of_tenant ON schedules (tenant, name);
