-- Times are milliseconds since 1970-01-01T00:00:00Z; states are spelled as on the wire.
CREATE TABLE images (
    arn            TEXT PRIMARY KEY,
    account        TEXT NOT NULL,
    name           TEXT NOT NULL,
    id             TEXT NOT NULL,
    state          TEXT NOT NULL,
    latest_active  INTEGER,
    latest_failed  INTEGER,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    tags           TEXT NOT NULL
) STRICT;
CREATE INDEX images_by_account ON images (account, name);

CREATE TABLE image_versions (
    arn            TEXT NOT NULL REFERENCES images (arn) ON DELETE CASCADE,
    version        INTEGER NOT NULL,
    state          TEXT NOT NULL,
    status         TEXT NOT NULL,
    configuration  TEXT NOT NULL,
    app            TEXT,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    PRIMARY KEY (arn, version)
) STRICT;

CREATE TABLE image_builds (
    id             TEXT PRIMARY KEY,
    arn            TEXT NOT NULL REFERENCES images (arn) ON DELETE CASCADE,
    version        INTEGER NOT NULL,
    state          TEXT NOT NULL,
    architecture   TEXT NOT NULL,
    state_reason   TEXT,
    snapshot       TEXT,
    created_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX image_builds_by_version ON image_builds (arn, version);

CREATE TABLE microvms (
    id             TEXT PRIMARY KEY,
    account        TEXT NOT NULL,
    image_arn      TEXT NOT NULL,
    image_version  INTEGER NOT NULL,
    state          TEXT NOT NULL,
    generation     INTEGER NOT NULL,
    state_reason   TEXT,
    endpoint_label TEXT NOT NULL UNIQUE,
    started_at     INTEGER NOT NULL,
    suspended_at   INTEGER,
    terminated_at  INTEGER,
    settings       TEXT NOT NULL
) STRICT;
CREATE INDEX microvms_by_account ON microvms (account, started_at DESC, id);
CREATE INDEX microvms_by_image ON microvms (image_arn, started_at DESC, id);
CREATE INDEX microvms_alive ON microvms (state) WHERE state <> 'TERMINATED';

CREATE TABLE client_tokens (
    account         TEXT NOT NULL,
    operation       TEXT NOT NULL,
    token           TEXT NOT NULL,
    parameters_hash TEXT NOT NULL,
    answer          TEXT NOT NULL,
    PRIMARY KEY (account, operation, token)
) STRICT;

CREATE TABLE log_groups (
    name       TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE log_streams (
    id            INTEGER PRIMARY KEY,
    group_name    TEXT NOT NULL REFERENCES log_groups (name) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    last_event_at INTEGER,
    next_sequence INTEGER NOT NULL,
    UNIQUE (group_name, name)
) STRICT;

CREATE TABLE log_events (
    id         INTEGER PRIMARY KEY,
    stream_id  INTEGER NOT NULL REFERENCES log_streams (id) ON DELETE CASCADE,
    sequence   INTEGER NOT NULL,
    timestamp  INTEGER NOT NULL,
    message    TEXT NOT NULL,
    UNIQUE (stream_id, sequence)
) STRICT;
