-- Snapshots have moved within the data directory. A version that looks for them where they were
-- would take what is suspended for lost: it is to refuse this database.
SELECT 1;
