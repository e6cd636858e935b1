-- Numbers of versions are never given twice, also when the version was deleted.
ALTER TABLE images ADD COLUMN last_version INTEGER NOT NULL DEFAULT 1;
