-- What microVMs may reach by a connector that is an egress policy, as it was written; NULL if it is
-- none.
ALTER TABLE network_connectors ADD COLUMN egress_rules TEXT;
