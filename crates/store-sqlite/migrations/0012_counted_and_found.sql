-- What accounts may have is counted, and what is looked for is found by an index, without a walk over what others have.

ALTER TABLE log_groups ADD COLUMN stream_count INTEGER NOT NULL DEFAULT 0;
UPDATE log_groups SET stream_count = found.streams
    FROM (SELECT group_id, count(*) AS streams FROM log_streams GROUP BY group_id) AS found
    WHERE found.group_id = log_groups.id;
CREATE TRIGGER log_streams_counted AFTER INSERT ON log_streams BEGIN
    UPDATE log_groups SET stream_count = stream_count + 1 WHERE id = NEW.group_id;
END;
CREATE TRIGGER log_streams_no_longer_counted AFTER DELETE ON log_streams BEGIN
    UPDATE log_groups SET stream_count = stream_count - 1 WHERE id = OLD.group_id;
END;

-- The bytes of a deleted stream count until its events are removed; so far they were given back at once.
UPDATE log_groups SET stored_bytes = log_groups.stored_bytes + found.bytes
    FROM (SELECT group_id, sum(stored_bytes) AS bytes FROM log_streams WHERE gone = 1 GROUP BY group_id) AS found
    WHERE found.group_id = log_groups.id;
CREATE INDEX log_groups_by_account ON log_groups (account, stored_bytes, stream_count);
DROP INDEX log_groups_gone;
CREATE INDEX log_groups_gone ON log_groups (account) WHERE gone = 1;

-- A stream without events is before all others.
ALTER TABLE log_streams ADD COLUMN event_order INTEGER GENERATED ALWAYS AS (coalesce(last_event_at, 0)) VIRTUAL;
ALTER TABLE log_streams ADD COLUMN used_at INTEGER
    GENERATED ALWAYS AS (max(created_at, coalesce(last_ingested_at, 0))) VIRTUAL;
CREATE INDEX log_streams_by_event ON log_streams (group_id, event_order, name) WHERE gone = 0;
-- Of all streams, because SQLite looks for those of a group that is removed (foreign key).
CREATE INDEX log_streams_by_use ON log_streams (group_id, used_at);
DROP INDEX log_streams_gone;
CREATE INDEX log_streams_gone ON log_streams (group_id) WHERE gone = 1;

-- Who refers to a network connector: of an image version or microVM there is at most one.
CREATE INDEX microvms_by_connector ON microvms (json_extract(settings, '$.egressNetworkConnectors[0]'))
    WHERE state <> 'TERMINATED';
CREATE INDEX image_versions_by_connector ON image_versions
    (json_extract(configuration, '$.egressNetworkConnectors[0]'));
CREATE INDEX network_connectors_gone ON network_connectors (gone_at) WHERE gone_at IS NOT NULL;
CREATE INDEX network_connectors_gone_of_account ON network_connectors (account, gone_at) WHERE gone_at IS NOT NULL;
CREATE INDEX network_connector_versions_gone ON network_connector_versions (gone_at) WHERE gone_at IS NOT NULL;
