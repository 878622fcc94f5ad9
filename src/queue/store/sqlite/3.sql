-- Small things that doors keep beside the jobs: who may come in, and what was answered before.
CREATE TABLE notes (
    kind   TEXT NOT NULL,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    until  INTEGER,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX notes_by_until ON notes (until) WHERE until IS NOT NULL;
