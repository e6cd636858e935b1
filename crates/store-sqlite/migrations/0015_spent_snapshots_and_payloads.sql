-- From which of its own snapshots a microVM's guest has gone on with no way back.
ALTER TABLE microvms ADD COLUMN spent INTEGER NOT NULL DEFAULT 0;

-- What run hooks are yet to be given, sealed with a key that is not in here.
CREATE TABLE payloads (
    microvm TEXT PRIMARY KEY,
    sealed  BLOB NOT NULL
) STRICT, WITHOUT ROWID;
