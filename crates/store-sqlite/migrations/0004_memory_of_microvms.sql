-- Baseline memory in MiB, for the quota over all microVMs that have not ended.
ALTER TABLE microvms ADD COLUMN memory_mib INTEGER
    GENERATED ALWAYS AS (coalesce(json_extract(settings, '$.minimumMemoryMib'), 2048)) VIRTUAL;
