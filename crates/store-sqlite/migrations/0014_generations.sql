-- Counts the changes of a record, which name the one that they saw. What was there before has had
-- none.
ALTER TABLE images ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE image_versions ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE image_builds ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE network_connectors ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;

-- Who works on a version or build: nobody on those of before, until a server claims them.
ALTER TABLE image_versions ADD COLUMN owner_node TEXT NOT NULL DEFAULT '';
ALTER TABLE image_versions ADD COLUMN owner_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE image_builds ADD COLUMN owner_node TEXT NOT NULL DEFAULT '';
ALTER TABLE image_builds ADD COLUMN owner_epoch INTEGER NOT NULL DEFAULT 0;
