//! Removing records that have had their time, in steps that are too short to hold up a writer.

use hearth_api::Timestamp;

use crate::{Result, Store};

/// Rows that one step removes at most.
const STEP: i64 = 1000;

impl Store {
    /// Removes up to a thousand microVMs that ended before a moment. True when there may be more.
    pub async fn sweep_ended_microvms(&self, before: Timestamp) -> Result<bool> {
        let removed = sqlx::query(
            "DELETE FROM microvms WHERE rowid IN
                 (SELECT rowid FROM microvms WHERE state = 'TERMINATED' AND terminated_at < ? LIMIT ?)",
        )
        .bind(before.as_millis())
        .bind(STEP)
        .execute(&self.pool)
        .await?;
        if removed.rows_affected() > 0 {
            self.recent.clear();
        }
        Ok(removed.rows_affected() as i64 == STEP)
    }

    /// Removes up to a thousand client tokens that were first used before a moment. True
    /// when there may be more.
    pub async fn sweep_client_tokens(&self, before: Timestamp) -> Result<bool> {
        let removed = sqlx::query(
            "DELETE FROM client_tokens WHERE rowid IN (SELECT rowid FROM client_tokens WHERE created_at < ? LIMIT ?)",
        )
        .bind(before.as_millis())
        .bind(STEP)
        .execute(&self.pool)
        .await?;
        Ok(removed.rows_affected() as i64 == STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count(store: &Store, table: &'static str) -> i64 {
        let statement = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(&store.pool).await.unwrap()
    }

    #[tokio::test]
    async fn only_what_ended_long_ago_goes_a_thousand_at_a_time() {
        let store = Store::temporary().await.unwrap();
        sqlx::query(
            "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 1500)
             INSERT INTO microvms (id, account, image_arn, image_version, state, generation, endpoint_label, started_at,
                 terminated_at, settings)
             SELECT n, '1', 'arn', 1, CASE n WHEN 0 THEN 'RUNNING' ELSE 'TERMINATED' END, 1, n, 0,
                 CASE n WHEN 0 THEN NULL ELSE n END, '{}' FROM n",
        )
        .execute(&store.pool)
        .await
        .unwrap();
        let before = Timestamp::from_millis(1400);
        assert!(store.sweep_ended_microvms(before).await.unwrap());
        assert_eq!(count(&store, "microvms").await, 501);
        assert!(!store.sweep_ended_microvms(before).await.unwrap());
        assert_eq!(count(&store, "microvms").await, 1 + 101);
    }

    #[tokio::test]
    async fn client_tokens_go_by_their_first_use() {
        let store = Store::temporary().await.unwrap();
        let now = Timestamp::now();
        let mut connection = store.pool.acquire().await.unwrap();
        let token = hearth_records::ClientToken {
            account: hearth_api::AccountId::from_stored("1"),
            operation: "RunMicrovm",
            token: "token".to_owned(),
            parameters_hash: String::new(),
            answer: "{}".to_owned(),
        };
        crate::client_tokens::claim(&mut connection, Some(&token)).await.unwrap();
        drop(connection);
        store.sweep_client_tokens(now).await.unwrap();
        assert_eq!(count(&store, "client_tokens").await, 1);
        store.sweep_client_tokens(Timestamp::from_millis(now.as_millis() + 60_000)).await.unwrap();
        assert_eq!(count(&store, "client_tokens").await, 0);
    }
}
