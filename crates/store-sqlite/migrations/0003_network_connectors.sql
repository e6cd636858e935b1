-- Nothing here is written when time passes: states follow from active_at and gone_at, so they need no task that could
-- be lost. What is gone stays as a row, because deleting it again has to succeed.
CREATE TABLE network_connectors (
    arn            TEXT PRIMARY KEY,
    account        TEXT NOT NULL,
    name           TEXT NOT NULL,
    latest_version INTEGER NOT NULL,
    tags           TEXT NOT NULL,
    modified_at    INTEGER NOT NULL,
    active_at      INTEGER NOT NULL,
    updated        TEXT,
    gone_at        INTEGER
) STRICT;
CREATE INDEX network_connectors_by_account ON network_connectors (account, name);

CREATE TABLE network_connector_versions (
    arn            TEXT NOT NULL REFERENCES network_connectors (arn) ON DELETE CASCADE,
    version        INTEGER NOT NULL,
    configuration  TEXT NOT NULL,
    operator_role  TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    active_at      INTEGER NOT NULL,
    gone_at        INTEGER,
    PRIMARY KEY (arn, version)
) STRICT;
