//! Tags of images and network connectors.

use std::collections::BTreeMap;

use hearth_api::{ImageArn, NetworkConnectorArn, Timestamp};
use sqlx::SqliteConnection;

use crate::{Result, Store, from_json, to_json};

/// What can have tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taggable {
    /// An image.
    Image(ImageArn),
    /// A network connector.
    NetworkConnector(NetworkConnectorArn),
}

impl Taggable {
    /// Its ARN.
    pub fn arn(&self) -> String {
        self.row().1
    }

    /// Table and ARN.
    fn row(&self) -> (&'static str, String) {
        match self {
            Self::Image(arn) => ("images", arn.to_string()),
            Self::NetworkConnector(arn) => ("network_connectors", arn.to_string()),
        }
    }

    async fn tags(&self, connection: &mut SqliteConnection) -> Result<Option<BTreeMap<String, String>>> {
        let (table, arn) = self.row();
        // Rows of connectors outlive them.
        let here = match self {
            Self::Image(_) => "?2 = ?2",
            Self::NetworkConnector(_) => "(gone_at IS NULL OR gone_at > ?2)",
        };
        let query = format!("SELECT tags FROM {table} WHERE arn = ?1 AND {here}");
        let tags: Option<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(arn)
            .bind(Timestamp::now().as_millis())
            .fetch_optional(connection)
            .await?;
        tags.map(|tags| from_json("tags", &tags)).transpose()
    }
}

impl Store {
    /// Tags of a resource; `None` when there is no such resource.
    pub async fn tags(&self, resource: &Taggable) -> Result<Option<BTreeMap<String, String>>> {
        let mut connection = self.pool.acquire().await?;
        resource.tags(&mut connection).await
    }

    /// Replaces a resource's tags by what `change` makes of them; `None` when there is no such resource.
    pub async fn change_tags<E>(
        &self,
        resource: &Taggable,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), E>,
    ) -> Result<Option<Result<(), E>>> {
        self.check_room()?;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let Some(mut tags) = resource.tags(&mut transaction).await? else { return Ok(None) };
        if let Err(refused) = change(&mut tags) {
            return Ok(Some(Err(refused)));
        }
        let (table, arn) = resource.row();
        sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE {table} SET tags = ? WHERE arn = ?")))
            .bind(to_json(&tags))
            .bind(arn)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Some(Ok(())))
    }
}
