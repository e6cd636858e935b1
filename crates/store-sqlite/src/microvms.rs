//! Rows of microVMs.

use std::sync::Arc;

use async_trait::async_trait;
use hearth_api::{AccountId, EndpointLabel, ImageArn, ImageVersion, MicrovmId, MicrovmState, Timestamp};
use hearth_records::{
    Actor, ClientToken, InsertedMicrovm, MicrovmFilter, MicrovmRecord, MicrovmSummary, Microvms, NodeId,
    Origin, Owner, Phase, Quotas, TokenClaim, Written,
};
use rusqlite::{Connection, Row, Transaction, params};

use crate::events::tell;
use crate::quotas::of_microvm;
use crate::rows::{STEP, from_json, moment, optional_moment, readable, text, to_json};
use crate::shared::{REVOCATIONS, changed};
use crate::writer::{Durability, Urgency};
use crate::{Result, Store, client_tokens, payloads, rows};

/// The columns of a record: not `*`, for which SQLite computes the generated one.
macro_rules! record_columns {
    () => {
        "id, account, image_arn, image_version, state, generation, reason, endpoint_label, started_at, \
         suspended_at, terminated_at, settings, token_revocations, phase, owner_node, owner_epoch, spent"
    };
}

#[async_trait]
impl Microvms for Store {
    async fn insert_microvm(
        &self,
        record: &MicrovmRecord,
        payload: Option<&[u8]>,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> hearth_records::Result<InsertedMicrovm> {
        let (record, payload, quotas) = (record.clone(), payload.map(<[u8]>::to_vec), *quotas);
        let origin = Origin::api(actor.cloned());
        let event = record.appeared(origin, Timestamp::now());
        self.write_microvm(record.id.clone(), Durability::Disk, move |tx| {
            let inserted = insert(tx, &record, token.as_ref(), &quotas)?;
            if inserted == InsertedMicrovm::Inserted {
                if let Some(sealed) = payload {
                    payloads::put(tx, &record.id, &sealed)?;
                }
                tell(tx, &event)?;
            }
            Ok(inserted)
        })
        .await
    }

    fn microvm_changes(&self) -> u64 {
        self.recent.changes()
    }

    async fn change_microvm(
        &self,
        was: &MicrovmRecord,
        to: &MicrovmRecord,
        origin: &Origin,
    ) -> hearth_records::Result<Written<MicrovmRecord>> {
        let durability = match to.state {
            // From which snapshot it goes on.
            _ if to.spent != was.spent && to.phase == was.phase => Durability::Disk,
            MicrovmState::Pending | MicrovmState::Running | MicrovmState::Suspending => Durability::Process,
            _ => Durability::Disk,
        };
        let event = to.changed_from(was, origin.clone(), Timestamp::now());
        let told = to.ends_first_start(was);
        let (was, to) = ((was.generation, was.owner.clone()), to.clone());
        self.write_microvm(to.id.clone(), durability, move |tx| {
            if update(tx, &was, &to)? == 0 {
                return Ok(Written::Stale(one_of(tx, &to.id)?.map(Box::new)));
            }
            if told {
                payloads::forget(tx, &to.id)?;
            }
            tell(tx, &event)?;
            Ok(Written::Yes)
        })
        .await
    }

    async fn sync(&self) -> hearth_records::Result<()> {
        Ok(self.sync_log().await?)
    }

    async fn put_payload(&self, id: &MicrovmId, sealed: &[u8]) -> hearth_records::Result<()> {
        let (id, sealed) = (id.clone(), sealed.to_vec());
        self.write(Durability::Disk, move |tx| payloads::put(tx, &id, &sealed).map(drop)).await
    }

    async fn payload(&self, id: &MicrovmId) -> hearth_records::Result<Option<Vec<u8>>> {
        self.read(|connection| payloads::get(connection, id))
    }

    async fn revoke_tokens(&self, id: &MicrovmId, actor: &Actor) -> hearth_records::Result<Option<u64>> {
        let statement = "UPDATE microvms SET token_revocations = token_revocations + 1 WHERE id = ?";
        let (revoked, actor) = (id.clone(), actor.clone());
        self.write_microvm(id.clone(), Durability::Disk, move |tx| {
            rows::run(tx, statement, [revoked.as_str()])?;
            let Some(record) = one_of(tx, &revoked)? else { return Ok(None) };
            tell(tx, &record.revoked(record.token_revocations, &actor, Timestamp::now()))?;
            changed(tx, REVOCATIONS)?;
            Ok(Some(record.token_revocations))
        })
        .await
    }

    async fn token_revocations(&self) -> hearth_records::Result<Vec<(MicrovmId, u64)>> {
        let query = "SELECT id, token_revocations FROM microvms
             WHERE state <> 'TERMINATED' AND token_revocations > 0";
        let read = |row: &Row<'_>| {
            Ok((MicrovmId::from_stored(row.get::<_, String>(0)?), row.get::<_, i64>(1)? as u64))
        };
        self.read(|connection| rows::all(connection, query, [], read))
    }

    async fn output_position(&self, id: &MicrovmId) -> hearth_records::Result<Option<u64>> {
        let query = "SELECT output_position FROM microvms WHERE id = ?";
        let read = |row: &Row<'_>| Ok(row.get::<_, Option<i64>>(0)?);
        let found = self.read(|connection| rows::one(connection, query, [id.as_str()], read))?;
        Ok(found.flatten().map(|position| position as u64))
    }

    async fn microvm(&self, id: &MicrovmId) -> hearth_records::Result<Option<MicrovmRecord>> {
        let read = || self.readers.read(|connection| one_of(connection, id));
        Ok(self.recent.get(id, read)?.map(Arc::unwrap_or_clone))
    }

    async fn microvms(
        &self,
        filter: &MicrovmFilter,
        after: Option<(Timestamp, &MicrovmId)>,
        limit: u32,
    ) -> hearth_records::Result<Vec<MicrovmSummary>> {
        let (after_started, after_id) =
            after.map_or((i64::MAX, ""), |(started_at, id)| (started_at.as_millis(), id.as_str()));
        let parameters = params![
            filter.account.as_str(),
            filter.image_arn.as_ref().map(ToString::to_string),
            filter.image_version.map(|version| version.0),
            after_started,
            after_id,
            limit,
        ];
        self.read(|connection| rows::all(connection, page_query(filter), parameters, summary))
    }

    async fn microvms_alive(&self) -> hearth_records::Result<Vec<MicrovmRecord>> {
        let query = concat!("SELECT ", record_columns!(), " FROM microvms WHERE state <> 'TERMINATED'");
        self.read(|connection| rows::all(connection, query, [], record))
    }

    fn check_room(&self) -> hearth_records::Result<()> {
        Ok(self.room()?)
    }

    async fn sweep_ended_microvms(&self, before: Timestamp) -> hearth_records::Result<bool> {
        let statement = "DELETE FROM microvms WHERE rowid IN
             (SELECT rowid FROM microvms WHERE state = 'TERMINATED' AND terminated_at < ? LIMIT ?)";
        let parameters = (before.as_millis(), STEP as i64);
        let sweep = move |tx: &Transaction<'_>| rows::run(tx, statement, parameters);
        let recent = self.recent.clone();
        let then = move |removed: &Result<usize>| {
            if !matches!(removed, Ok(0)) {
                recent.clear();
            }
        };
        Ok(self.writer.write(Urgency::Bulk, Durability::Disk, sweep, then).await? == STEP)
    }
}

fn insert(
    tx: &Transaction<'_>,
    record: &MicrovmRecord,
    token: Option<&ClientToken>,
    quotas: &Quotas,
) -> Result<InsertedMicrovm> {
    let claim = client_tokens::look_up(tx, token)?;
    if claim != TokenClaim::Fresh {
        return Ok(InsertedMicrovm::Token(claim));
    }
    let launchable: bool = rows::value(
        tx,
        "SELECT EXISTS (SELECT 1 FROM image_versions JOIN images USING (arn)
             WHERE arn = ? AND version = ? AND image_versions.state = 'SUCCESSFUL' AND status = 'ACTIVE'
                 AND images.state <> 'DELETING')",
        params![record.image_arn.to_string(), record.image_version.0],
    )?;
    if !launchable {
        return Ok(InsertedMicrovm::VersionGone);
    }
    let memory_mib = record.settings.minimum_memory_mib;
    if let Some(quota) = of_microvm(quotas, tx, &record.account, memory_mib)? {
        return Ok(InsertedMicrovm::QuotaExceeded(quota));
    }
    client_tokens::insert(tx, token)?;
    rows::run(
        tx,
        "INSERT INTO microvms (id, account, image_arn, image_version, state, generation, reason,
             endpoint_label, started_at, suspended_at, terminated_at, settings, phase, owner_node, owner_epoch,
             spent)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            record.id.as_str(),
            record.account.as_str(),
            record.image_arn.to_string(),
            record.image_version.0,
            record.state.as_str(),
            record.generation as i64,
            record.reason.as_ref().map(to_json),
            record.endpoint_label.as_str(),
            record.started_at.as_millis(),
            record.suspended_at.map(Timestamp::as_millis),
            record.terminated_at.map(Timestamp::as_millis),
            to_json(&record.settings),
            record.phase.as_str(),
            record.owner.node.as_str(),
            record.owner.epoch as i64,
            record.spent,
        ],
    )?;
    Ok(InsertedMicrovm::Inserted)
}

/// Writes a row if it still has this generation and owner; how many rows were written.
fn update(tx: &Transaction<'_>, (generation, owner): &(u64, Owner), to: &MicrovmRecord) -> Result<usize> {
    rows::run(
        tx,
        "UPDATE microvms SET state = ?, phase = ?, generation = ?, owner_node = ?, owner_epoch = ?, reason = ?,
             suspended_at = ?, terminated_at = ?, spent = ?
         WHERE id = ? AND generation = ? AND owner_node = ? AND owner_epoch = ?",
        params![
            to.state.as_str(),
            to.phase.as_str(),
            to.generation as i64,
            to.owner.node.as_str(),
            to.owner.epoch as i64,
            to.reason.as_ref().map(to_json),
            to.suspended_at.map(Timestamp::as_millis),
            to.terminated_at.map(Timestamp::as_millis),
            to.spent,
            to.id.as_str(),
            *generation as i64,
            owner.node.as_str(),
            owner.epoch as i64,
        ],
    )
}

fn one_of(connection: &Connection, id: &MicrovmId) -> Result<Option<MicrovmRecord>> {
    let query = concat!("SELECT ", record_columns!(), " FROM microvms WHERE id = ?");
    rows::one(connection, query, [id.as_str()], record)
}

/// A query for a page, in a form for which SQLite takes the index that leads to the wanted records
/// alone. With the plus it leaves the account's index aside.
fn page_query(filter: &MicrovmFilter) -> &'static str {
    macro_rules! page {
        ($wanted:literal) => {
            concat!(
                "SELECT id, image_arn, image_version, state, started_at FROM microvms WHERE ",
                $wanted,
                " AND started_at <= ?4 AND (started_at < ?4 OR id > ?5) ORDER BY started_at DESC, id LIMIT ?6"
            )
        };
    }
    match (&filter.image_arn, filter.image_version) {
        (None, _) => page!("account = ?1 AND (?3 IS NULL OR image_version = ?3)"),
        (Some(_), None) => page!("+account = ?1 AND image_arn = ?2"),
        (Some(_), Some(_)) => page!("+account = ?1 AND image_arn = ?2 AND image_version = ?3"),
    }
}

/// Reads by position, as `record_columns` has them: a name would be looked for in each row.
fn record(row: &Row<'_>) -> Result<MicrovmRecord> {
    Ok(MicrovmRecord {
        id: MicrovmId::from_stored(row.get::<_, String>(0)?),
        account: AccountId::from_stored(row.get::<_, String>(1)?),
        image_arn: readable("image_arn", text(row, 2)?, ImageArn::parse)?,
        image_version: ImageVersion(row.get(3)?),
        state: readable("state", text(row, 4)?, MicrovmState::parse)?,
        generation: row.get::<_, i64>(5)? as u64,
        reason: row.get::<_, Option<String>>(6)?.map(|text| from_json("reason", &text)).transpose()?,
        endpoint_label: EndpointLabel::from_stored(row.get::<_, String>(7)?),
        started_at: moment(row, 8)?,
        suspended_at: optional_moment(row, 9)?,
        terminated_at: optional_moment(row, 10)?,
        settings: from_json("settings", text(row, 11)?)?,
        token_revocations: row.get::<_, i64>(12)? as u64,
        phase: readable("phase", text(row, 13)?, Phase::parse)?,
        owner: Owner { node: NodeId::from_stored(text(row, 14)?), epoch: row.get::<_, i64>(15)? as u64 },
        spent: row.get(16)?,
    })
}

fn summary(row: &Row<'_>) -> Result<MicrovmSummary> {
    Ok(MicrovmSummary {
        id: MicrovmId::from_stored(row.get::<_, String>(0)?),
        image_arn: readable("image_arn", text(row, 1)?, ImageArn::parse)?,
        image_version: ImageVersion(row.get(2)?),
        state: readable("state", text(row, 3)?, MicrovmState::parse)?,
        started_at: moment(row, 4)?,
    })
}

#[cfg(test)]
mod tests {
    use hearth_records::Images as _;
    use hearth_records::testing::{Subject, built, image_arn};

    use super::*;

    async fn launchable(store: &Store) -> (ImageArn, ImageVersion) {
        let new = built(image_arn("000000000000", "app"), Timestamp::now());
        store.insert_image(&new, None, None, &Quotas::default()).await.unwrap();
        (new.version.arn, new.version.version)
    }

    #[tokio::test]
    async fn microvms_conform() {
        let store = Store::temporary().await.unwrap();
        let version = launchable(&store).await;
        let store = Arc::new(store);
        Subject { microvms: store.clone(), shared: store, version }.conforms().await;
    }

    #[tokio::test]
    async fn a_page_costs_the_same_whatever_else_is_recorded() {
        let store = Store::temporary().await.unwrap();
        let image = ImageArn::parse("arn:aws:lambda:us-east-1:000000000000:microvm-image:app");
        for (image_arn, image_version, index) in [
            (None, None, "microvms_by_account (account=? AND started_at<?)"),
            (image.clone(), None, "microvms_by_image (image_arn=? AND started_at<?)"),
            (
                image,
                Some(ImageVersion::FIRST),
                "microvms_by_version (image_arn=? AND image_version=? AND started_at<?)",
            ),
        ] {
            let filter =
                MicrovmFilter { account: AccountId::from_stored("000000000000"), image_arn, image_version };
            let plan = store.plan(page_query(&filter));
            assert!(plan.ends_with(&format!("USING INDEX {index}")), "{plan}");
        }
    }

    #[tokio::test]
    async fn only_what_ended_long_ago_goes_a_thousand_at_a_time() {
        let store = Store::temporary().await.unwrap();
        store.execute(
            "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 1500)
             INSERT INTO microvms (id, account, image_arn, image_version, state, generation, endpoint_label, started_at,
                 terminated_at, settings)
             SELECT n, '1', 'arn', 1, CASE n WHEN 0 THEN 'RUNNING' ELSE 'TERMINATED' END, 1, n, 0,
                 CASE n WHEN 0 THEN NULL ELSE n END, '{}' FROM n",
        );
        let before = Timestamp::from_millis(1400);
        assert!(store.sweep_ended_microvms(before).await.unwrap());
        assert_eq!(store.number("SELECT count(*) FROM microvms"), 501);
        assert!(!store.sweep_ended_microvms(before).await.unwrap());
        assert_eq!(store.number("SELECT count(*) FROM microvms"), 1 + 101);
    }
}
