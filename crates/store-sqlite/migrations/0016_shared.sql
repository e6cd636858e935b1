-- What several processes on the same database keep in memory, each with the number of its changes,
-- which goes up in the transaction that makes one; and the values of those that have no table of
-- their own.
CREATE TABLE shared (
    name    TEXT PRIMARY KEY,
    version INTEGER NOT NULL DEFAULT 0,
    value   TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO shared (name) VALUES ('identities'), ('revocations'), ('token-keys'), ('limits');
