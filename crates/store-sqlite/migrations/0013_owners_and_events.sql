-- Who drives a microVM, where it is in its life, and why, as JSON. A microVM of before has no owner
-- until a server claims it.
ALTER TABLE microvms ADD COLUMN phase TEXT NOT NULL DEFAULT '';
ALTER TABLE microvms ADD COLUMN owner_node TEXT NOT NULL DEFAULT '';
ALTER TABLE microvms ADD COLUMN owner_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE microvms ADD COLUMN reason TEXT;
UPDATE microvms SET
    phase = CASE state WHEN 'PENDING' THEN 'LAUNCHING' ELSE state END,
    reason = CASE WHEN state_reason IS NOT NULL THEN json_object('kind', 'said', 'text', state_reason) END;
ALTER TABLE microvms DROP COLUMN state_reason;

-- Every change leaves one, in its own transaction. Numbers are never given twice.
CREATE TABLE events (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    account    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    resource   TEXT NOT NULL,
    part       TEXT,
    what       TEXT NOT NULL,
    was        TEXT,
    became     TEXT,
    reason     TEXT,
    cause      TEXT NOT NULL,
    principal  TEXT,
    request_id TEXT
) STRICT;
CREATE INDEX events_by_account ON events (account, sequence);
CREATE INDEX events_by_resource ON events (resource, sequence);
