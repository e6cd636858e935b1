//! Tags of images and network connectors.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hearth_api::Timestamp;
use hearth_records::{Actor, Result as Recorded, Taggable, Tags};

use crate::events::tell;
use crate::rows::to_json;
use crate::writer::Durability;
use crate::{Store, rows};

/// Table and ARN.
fn row(resource: &Taggable) -> (&'static str, String) {
    let table = match resource {
        Taggable::Image(_) => "images",
        Taggable::NetworkConnector(_) => "network_connectors",
    };
    (table, resource.arn())
}

#[async_trait]
impl Tags for Store {
    async fn tags(&self, resource: &Taggable) -> Recorded<Option<BTreeMap<String, String>>> {
        let (table, arn) = row(resource);
        // Rows of connectors outlive them.
        let here = match resource {
            Taggable::Image(_) => "?2 = ?2",
            Taggable::NetworkConnector(_) => "(gone_at IS NULL OR gone_at > ?2)",
        };
        let query = format!("SELECT tags FROM {table} WHERE arn = ?1 AND {here}");
        let parameters = (arn, Timestamp::now().as_millis());
        self.read(|connection| rows::one(connection, &query, parameters, |row| rows::json(row, "tags")))
    }

    async fn replace_tags(
        &self,
        resource: &Taggable,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
        actor: Option<&Actor>,
    ) -> Recorded<bool> {
        self.room()?;
        let (table, arn) = row(resource);
        let update = format!("UPDATE {table} SET tags = ? WHERE arn = ? AND tags = ?");
        let parameters = (to_json(after), arn, to_json(before));
        let event = resource.tagged((before.len(), after.len()), actor, Timestamp::now());
        self.write(Durability::Disk, move |tx| {
            let replaced = rows::run(tx, &update, parameters)? == 1;
            if replaced {
                tell(tx, &event)?;
            }
            Ok(replaced)
        })
        .await
    }
}
