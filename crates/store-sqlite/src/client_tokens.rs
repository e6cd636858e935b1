//! Idempotency: a `clientToken` names the answer that was given to it.

use async_trait::async_trait;
use hearth_api::Timestamp;
use hearth_records::{ClientToken, TokenClaim, Tokens};
use rusqlite::{Connection, params};

use crate::rows::STEP;
use crate::writer::Durability;
use crate::{Result, Store, rows};

/// Tokens of an operation that are kept for an account where [`keep_newest`] is used.
pub(crate) const KEPT: u32 = 1000;

#[async_trait]
impl Tokens for Store {
    async fn client_token(&self, token: &ClientToken) -> hearth_records::Result<TokenClaim> {
        self.read(|connection| look_up(connection, Some(token)))
    }

    async fn sweep_client_tokens(&self, before: Timestamp) -> hearth_records::Result<bool> {
        let statement = "DELETE FROM client_tokens WHERE rowid IN
             (SELECT rowid FROM client_tokens WHERE created_at < ? LIMIT ?)";
        let parameters = (before.as_millis(), STEP as i64);
        let removed = self.write_bulk(Durability::Disk, move |tx| rows::run(tx, statement, parameters));
        Ok(removed.await? == STEP)
    }
}

/// What a token stands for already. Without a token everything is fresh.
pub(crate) fn look_up(connection: &Connection, token: Option<&ClientToken>) -> Result<TokenClaim> {
    let Some(token) = token else { return Ok(TokenClaim::Fresh) };
    let query = "SELECT parameters_hash, answer FROM client_tokens
         WHERE account = ? AND operation = ? AND token = ?";
    let key = params![token.account.as_str(), token.operation, token.token];
    let found = rows::one(connection, query, key, |row| {
        let same = rows::text(row, 0)? == token.parameters_hash;
        Ok(if same { TokenClaim::Replay(row.get(1)?) } else { TokenClaim::Mismatch })
    })?;
    Ok(found.unwrap_or(TokenClaim::Fresh))
}

/// Records a token that [`look_up`] found fresh in the same transaction.
pub(crate) fn insert(connection: &Connection, token: Option<&ClientToken>) -> Result<()> {
    let Some(token) = token else { return Ok(()) };
    rows::run(
        connection,
        "INSERT INTO client_tokens (account, operation, token, parameters_hash, answer, created_at)
         VALUES (?, ?, ?, ?, ?, ?)",
        params![
            token.account.as_str(),
            token.operation,
            token.token,
            token.parameters_hash,
            token.answer,
            Timestamp::now().as_millis(),
        ],
    )?;
    Ok(())
}

/// Forgets the oldest tokens of an operation beyond the newest [`KEPT`] of the account. This is for
/// operations whose answers are long and that a client may call as often as it likes, because what
/// they make can be deleted again.
pub(crate) fn keep_newest(connection: &Connection, token: Option<&ClientToken>) -> Result<()> {
    let Some(token) = token else { return Ok(()) };
    // With the plus SQLite sorts those of the operation, which are few, and does not walk over
    // everybody's by their age.
    rows::run(
        connection,
        "DELETE FROM client_tokens WHERE rowid IN (
             SELECT rowid FROM client_tokens WHERE account = ? AND operation = ?
             ORDER BY +created_at DESC, rowid DESC LIMIT -1 OFFSET ?)",
        params![token.account.as_str(), token.operation, KEPT],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn client_tokens_go_by_their_first_use() {
        let store = Store::temporary().await.unwrap();
        let now = Timestamp::now();
        let token = ClientToken {
            account: hearth_api::AccountId::from_stored("1"),
            operation: "RunMicrovm",
            token: "token".to_owned(),
            parameters_hash: String::new(),
            answer: "{}".to_owned(),
        };
        insert(&store.connection(), Some(&token)).unwrap();
        store.sweep_client_tokens(now).await.unwrap();
        assert_eq!(store.number("SELECT count(*) FROM client_tokens"), 1);
        store.sweep_client_tokens(Timestamp::from_millis(now.as_millis() + 60_000)).await.unwrap();
        assert_eq!(store.number("SELECT count(*) FROM client_tokens"), 0);
    }
}
