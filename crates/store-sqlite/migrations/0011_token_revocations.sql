-- How many times the tokens of a microVM's endpoint have been revoked; each token says how many times they had been.
ALTER TABLE microvms ADD COLUMN token_revocations INTEGER NOT NULL DEFAULT 0;
