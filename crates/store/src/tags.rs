//! Tags of images and network connectors.

use std::collections::BTreeMap;

use hearth_api::Timestamp;
use hearth_records::Taggable;
use sqlx::SqliteConnection;

use crate::{Result, Store, from_json, to_json};

/// Table and ARN.
fn row(resource: &Taggable) -> (&'static str, String) {
    let table = match resource {
        Taggable::Image(_) => "images",
        Taggable::NetworkConnector(_) => "network_connectors",
    };
    (table, resource.arn())
}

async fn tags(
    connection: &mut SqliteConnection,
    resource: &Taggable,
) -> Result<Option<BTreeMap<String, String>>> {
    let (table, arn) = row(resource);
    // Rows of connectors outlive them.
    let here = match resource {
        Taggable::Image(_) => "?2 = ?2",
        Taggable::NetworkConnector(_) => "(gone_at IS NULL OR gone_at > ?2)",
    };
    let query = format!("SELECT tags FROM {table} WHERE arn = ?1 AND {here}");
    let tags: Option<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(arn)
        .bind(Timestamp::now().as_millis())
        .fetch_optional(connection)
        .await?;
    tags.map(|tags| from_json("tags", &tags)).transpose()
}

impl Store {
    /// Tags of a resource; `None` when there is no such resource.
    pub async fn tags(&self, resource: &Taggable) -> Result<Option<BTreeMap<String, String>>> {
        let mut connection = self.pool.acquire().await?;
        tags(&mut connection, resource).await
    }

    /// Replaces a resource's tags by what `change` makes of them; `None` when there
    /// is no such resource.
    pub async fn change_tags<E>(
        &self,
        resource: &Taggable,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), E>,
    ) -> Result<Option<Result<(), E>>> {
        self.check_room()?;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let Some(mut tags) = tags(&mut transaction, resource).await? else { return Ok(None) };
        if let Err(refused) = change(&mut tags) {
            return Ok(Some(Err(refused)));
        }
        let (table, arn) = row(resource);
        sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE {table} SET tags = ? WHERE arn = ?")))
            .bind(to_json(&tags))
            .bind(arn)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Some(Ok(())))
    }
}
