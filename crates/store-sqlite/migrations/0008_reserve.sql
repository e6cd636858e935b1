-- Filled and emptied when the database is opened: its pages stay in the file as room for records on a full disk.
CREATE TABLE reserve (bytes BLOB NOT NULL) STRICT;
