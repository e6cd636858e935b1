-- Log groups belong to accounts, can be deleted and have a retention; what is old can be found without a scan.
-- Groups of before have no account until the server that opens the database says whose they are ('' until then).
-- Tables are filled anew, because dropping one of the old ones would take its children with it.
CREATE TABLE new_log_groups (
    id             INTEGER PRIMARY KEY,
    account        TEXT NOT NULL,
    name           TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    retention_days INTEGER,
    -- Messages with what each event costs, as the service counts.
    stored_bytes   INTEGER NOT NULL DEFAULT 0,
    tags           TEXT NOT NULL DEFAULT '{}',
    -- Deleted: invisible, and its events are removed little by little.
    gone           INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE new_log_streams (
    id               INTEGER PRIMARY KEY,
    group_id         INTEGER NOT NULL REFERENCES new_log_groups (id) ON DELETE CASCADE,
    name             TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    first_event_at   INTEGER,
    last_event_at    INTEGER,
    last_ingested_at INTEGER,
    stored_bytes     INTEGER NOT NULL DEFAULT 0,
    gone             INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Ids are never given twice, so that a reader who knows the last one finds everything that came after it.
CREATE TABLE new_log_events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id    INTEGER NOT NULL,
    stream_id   INTEGER NOT NULL REFERENCES new_log_streams (id) ON DELETE CASCADE,
    timestamp   INTEGER NOT NULL,
    ingested_at INTEGER NOT NULL,
    message     TEXT NOT NULL
) STRICT;

INSERT INTO new_log_groups (id, account, name, created_at) SELECT rowid, '', name, created_at FROM log_groups;
INSERT INTO new_log_streams (id, group_id, name, created_at, first_event_at, last_event_at, last_ingested_at, stored_bytes)
    SELECT log_streams.id, new_log_groups.id, log_streams.name, log_streams.created_at,
           (SELECT min(timestamp) FROM log_events WHERE stream_id = log_streams.id), last_event_at, last_event_at,
           (SELECT coalesce(sum(octet_length(message) + 26), 0) FROM log_events WHERE stream_id = log_streams.id)
    FROM log_streams JOIN new_log_groups ON new_log_groups.name = group_name;
INSERT INTO new_log_events (id, group_id, stream_id, timestamp, ingested_at, message)
    SELECT log_events.id, group_id, stream_id, timestamp, timestamp, message
    FROM log_events JOIN new_log_streams ON new_log_streams.id = stream_id ORDER BY log_events.id;
UPDATE new_log_groups SET stored_bytes =
    (SELECT coalesce(sum(stored_bytes), 0) FROM new_log_streams WHERE group_id = new_log_groups.id);

DROP TABLE log_events;
DROP TABLE log_streams;
DROP TABLE log_groups;
ALTER TABLE new_log_groups RENAME TO log_groups;
ALTER TABLE new_log_streams RENAME TO log_streams;
ALTER TABLE new_log_events RENAME TO log_events;
CREATE UNIQUE INDEX log_groups_by_name ON log_groups (account, name) WHERE gone = 0;
CREATE UNIQUE INDEX log_streams_by_name ON log_streams (group_id, name) WHERE gone = 0;
CREATE INDEX log_groups_gone ON log_groups (id) WHERE gone = 1;
CREATE INDEX log_streams_gone ON log_streams (id) WHERE gone = 1;
CREATE INDEX log_events_by_group ON log_events (group_id, timestamp, id);
CREATE INDEX log_events_by_stream ON log_events (stream_id, timestamp, id);

-- What has ended expires.
CREATE INDEX microvms_ended ON microvms (terminated_at) WHERE state = 'TERMINATED';
ALTER TABLE client_tokens ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
UPDATE client_tokens SET created_at = unixepoch() * 1000;
CREATE INDEX client_tokens_by_age ON client_tokens (created_at);
