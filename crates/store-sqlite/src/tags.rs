//! Tags of images and network connectors.

use std::collections::BTreeMap;

use hearth_api::Timestamp;
use hearth_records::Taggable;

use crate::{Result, Store, from_json, to_json};

/// Table and ARN.
fn row(resource: &Taggable) -> (&'static str, String) {
    let table = match resource {
        Taggable::Image(_) => "images",
        Taggable::NetworkConnector(_) => "network_connectors",
    };
    (table, resource.arn())
}

impl Store {
    /// Tags of a resource; `None` when there is no such resource.
    pub async fn tags(&self, resource: &Taggable) -> Result<Option<BTreeMap<String, String>>> {
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
            .fetch_optional(&self.pool)
            .await?;
        tags.map(|tags| from_json("tags", &tags)).transpose()
    }

    /// Replaces a resource's tags if they are still as they were `before`; false when they are not,
    /// or when there is no such resource.
    pub async fn replace_tags(
        &self,
        resource: &Taggable,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) -> Result<bool> {
        self.check_room()?;
        let (table, arn) = row(resource);
        let update = format!("UPDATE {table} SET tags = ? WHERE arn = ? AND tags = ?");
        let updated = sqlx::query(sqlx::AssertSqlSafe(update))
            .bind(to_json(after))
            .bind(arn)
            .bind(to_json(before))
            .execute(&self.pool)
            .await?;
        Ok(updated.rows_affected() == 1)
    }
}
