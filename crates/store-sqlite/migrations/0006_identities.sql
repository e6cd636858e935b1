-- Users, roles, managed policies and sessions, each as JSON: they are always read whole, at the start. Names are in
-- lower case, because IAM's are unique without regard to case; a session's name is its access key.
CREATE TABLE identities (
    account TEXT NOT NULL,
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (account, kind, name)
) STRICT;
