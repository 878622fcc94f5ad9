-- Small things that doors keep beside the jobs: who may come in, and what was answered before.
CREATE TABLE notes (
    kind   TEXT COLLATE "C" NOT NULL,
    name   TEXT COLLATE "C" NOT NULL,
    value  TEXT NOT NULL,
    until  BIGINT,
    PRIMARY KEY (kind, name)
);
CREATE INDEX notes_by_until ON notes (until) WHERE until IS NOT NULL;
