//! Idempotency: a `clientToken` names the answer that was given to it.

use hearth_records::{ClientToken, TokenClaim};
use sqlx::Row as _;

use crate::{Result, Store};

/// Tokens of an operation that are kept for an account where [`keep_newest`] is used.
pub(crate) const KEPT: u32 = 1000;

impl Store {
    /// What a token stands for already, if anything: lets a handler answer before it
    /// validates anything else.
    pub async fn client_token(&self, token: &ClientToken) -> Result<TokenClaim> {
        let mut connection = self.pool.acquire().await?;
        look_up(&mut connection, token).await
    }
}

/// Records `token` inside the caller's transaction, or says what it already stands for.
pub(crate) async fn claim(
    connection: &mut sqlx::SqliteConnection,
    token: Option<&ClientToken>,
) -> Result<TokenClaim> {
    let Some(token) = token else { return Ok(TokenClaim::Fresh) };
    let inserted = sqlx::query(
        "INSERT INTO client_tokens (account, operation, token, parameters_hash, answer, created_at)
         VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(token.account.as_str())
    .bind(token.operation)
    .bind(&token.token)
    .bind(&token.parameters_hash)
    .bind(&token.answer)
    .bind(hearth_api::Timestamp::now().as_millis())
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() == 1 { Ok(TokenClaim::Fresh) } else { look_up(connection, token).await }
}

/// Forgets the oldest tokens of an operation beyond the newest [`KEPT`] of the account: of
/// operations whose answers are long and that may be called as often as somebody likes, because
/// what they make can be deleted again.
pub(crate) async fn keep_newest(
    connection: &mut sqlx::SqliteConnection,
    token: Option<&ClientToken>,
) -> Result<()> {
    let Some(token) = token else { return Ok(()) };
    // With the plus SQLite sorts those of the operation, which are few, and does not walk over
    // everybody's by their age.
    sqlx::query(
        "DELETE FROM client_tokens WHERE rowid IN (
             SELECT rowid FROM client_tokens WHERE account = ? AND operation = ?
             ORDER BY +created_at DESC, rowid DESC LIMIT -1 OFFSET ?)",
    )
    .bind(token.account.as_str())
    .bind(token.operation)
    .bind(KEPT)
    .execute(connection)
    .await?;
    Ok(())
}

async fn look_up(connection: &mut sqlx::SqliteConnection, token: &ClientToken) -> Result<TokenClaim> {
    let row = sqlx::query(
        "SELECT parameters_hash, answer FROM client_tokens WHERE account = ? AND operation = ? AND token = ?",
    )
    .bind(token.account.as_str())
    .bind(token.operation)
    .bind(&token.token)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(TokenClaim::Fresh) };
    let same = row.try_get::<String, _>("parameters_hash")? == token.parameters_hash;
    Ok(if same { TokenClaim::Replay(row.try_get("answer")?) } else { TokenClaim::Mismatch })
}
