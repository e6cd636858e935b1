//! MicroVMs in memory, with what processes share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hearth_api::{ImageArn, ImageVersion, MicrovmId, MicrovmState, NetworkConnectorArn, Timestamp};
use hearth_egress_policy::RuleText;

use crate::{
    Actor, ClientToken, EgressRules, IdentityRow, ImageVersionRecord, ImageVersions, InsertedMicrovm,
    MicrovmFilter, MicrovmRecord, MicrovmSummary, Microvms, Origin, Quota, Quotas, Result, TokenClaim,
    Versions, Written,
};

/// MicroVMs in memory, of versions that can always be launched. Nobody reads events of them, so
/// none are kept.
#[derive(Debug, Default)]
pub struct MemoryRecords {
    versions: Vec<ImageVersionRecord>,
    microvms: Mutex<BTreeMap<MicrovmId, MicrovmRecord>>,
    payloads: Mutex<BTreeMap<MicrovmId, Vec<u8>>>,
    tokens: Mutex<Vec<ClientToken>>,
    changes: AtomicU64,
    shared: Mutex<MemoryShared>,
}

/// What processes share, in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryShared {
    pub(super) versions: Versions,
    pub(super) identities: Vec<IdentityRow>,
    pub(super) token_keys: Option<String>,
    pub(super) limits: Option<String>,
}

/// There are no connectors.
#[async_trait]
impl EgressRules for MemoryRecords {
    async fn egress_rules(&self, _: &NetworkConnectorArn, _: Timestamp) -> Result<Option<Vec<RuleText>>> {
        Ok(None)
    }
}

impl MemoryRecords {
    /// None yet; these are the image versions that there are.
    pub fn new(versions: Vec<ImageVersionRecord>) -> Self {
        Self { versions, ..Self::default() }
    }

    /// Every microVM.
    pub fn all(&self) -> Vec<MicrovmRecord> {
        self.microvms().values().cloned().collect()
    }

    /// Whose run hooks are yet to be given a payload.
    pub fn payloads_kept(&self) -> Vec<MicrovmId> {
        self.payloads().keys().cloned().collect()
    }

    /// One microVM.
    pub fn get(&self, id: &MicrovmId) -> Option<MicrovmRecord> {
        self.microvms().get(id).cloned()
    }

    /// Records a microVM, whatever its account has already, with its sealed payload.
    pub fn put(&self, record: MicrovmRecord, payload: Option<Vec<u8>>) {
        self.payloads().extend(payload.map(|sealed| (record.id.clone(), sealed)));
        self.microvms().insert(record.id.clone(), record);
    }

    fn microvms(&self) -> MutexGuard<'_, BTreeMap<MicrovmId, MicrovmRecord>> {
        self.microvms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, MemoryShared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn payloads(&self) -> MutexGuard<'_, BTreeMap<MicrovmId, Vec<u8>>> {
        self.payloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn claim(&self, token: Option<ClientToken>) -> TokenClaim {
        let Some(token) = token else { return TokenClaim::Fresh };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&ClientToken| {
            known.account == token.account && known.operation == token.operation && known.token == token.token
        };
        match tokens.iter().find(same) {
            Some(known) if known.parameters_hash == token.parameters_hash => {
                TokenClaim::Replay(known.answer.clone())
            }
            Some(_) => TokenClaim::Mismatch,
            None => {
                tokens.push(token);
                TokenClaim::Fresh
            }
        }
    }
}

#[async_trait]
impl Microvms for MemoryRecords {
    async fn insert_microvm(
        &self,
        record: &MicrovmRecord,
        payload: Option<&[u8]>,
        _: Option<&Actor>,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<InsertedMicrovm> {
        let known = |version: &ImageVersionRecord| {
            version.arn == record.image_arn && version.version == record.image_version
        };
        if !self.versions.iter().any(known) {
            return Ok(InsertedMicrovm::VersionGone);
        }
        let mut microvms = self.microvms();
        let alive = microvms.values().filter(|other| other.state != MicrovmState::Terminated);
        let used: u64 = alive
            .filter(|other| other.account == record.account)
            .map(|other| u64::from(other.settings.minimum_memory_mib))
            .sum();
        match self.claim(token) {
            TokenClaim::Fresh => {}
            claim => return Ok(InsertedMicrovm::Token(claim)),
        }
        if used + u64::from(record.settings.minimum_memory_mib) > quotas.memory_mib {
            return Ok(InsertedMicrovm::QuotaExceeded(Quota::Memory));
        }
        microvms.insert(record.id.clone(), record.clone());
        self.payloads().extend(payload.map(|sealed| (record.id.clone(), sealed.to_vec())));
        self.changed();
        Ok(InsertedMicrovm::Inserted)
    }

    fn microvm_changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    async fn change_microvm(
        &self,
        was: &MicrovmRecord,
        to: &MicrovmRecord,
        _: &Origin,
    ) -> Result<Written<MicrovmRecord>> {
        let mut microvms = self.microvms();
        match microvms.get_mut(&to.id) {
            Some(known) if known.generation == was.generation && known.owner == was.owner => {
                let token_revocations = known.token_revocations;
                *known = MicrovmRecord { token_revocations, ..to.clone() };
            }
            known => return Ok(Written::Stale(known.map(|known| Box::new(known.clone())))),
        }
        if to.ends_first_start(was) {
            self.payloads().remove(&to.id);
        }
        self.changed();
        Ok(Written::Yes)
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn put_payload(&self, id: &MicrovmId, sealed: &[u8]) -> Result<()> {
        self.payloads().insert(id.clone(), sealed.to_vec());
        Ok(())
    }

    async fn payload(&self, id: &MicrovmId) -> Result<Option<Vec<u8>>> {
        Ok(self.payloads().get(id).cloned())
    }

    async fn revoke_tokens(&self, id: &MicrovmId, _: &Actor) -> Result<Option<u64>> {
        let mut microvms = self.microvms();
        let Some(known) = microvms.get_mut(id) else { return Ok(None) };
        known.token_revocations += 1;
        self.shared().versions.revocations += 1;
        self.changed();
        Ok(Some(known.token_revocations))
    }

    async fn token_revocations(&self) -> Result<Vec<(MicrovmId, u64)>> {
        let revoked = |record: &&MicrovmRecord| {
            record.state != MicrovmState::Terminated && record.token_revocations > 0
        };
        let microvms = self.microvms();
        let revoked = microvms.values().filter(revoked);
        Ok(revoked.map(|record| (record.id.clone(), record.token_revocations)).collect())
    }

    async fn output_position(&self, _: &MicrovmId) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn microvm(&self, id: &MicrovmId) -> Result<Option<MicrovmRecord>> {
        Ok(self.microvms().get(id).cloned())
    }

    async fn microvms(
        &self,
        filter: &MicrovmFilter,
        after: Option<(Timestamp, &MicrovmId)>,
        limit: u32,
    ) -> Result<Vec<MicrovmSummary>> {
        let wanted = |record: &&MicrovmRecord| {
            record.account == filter.account
                && filter.image_arn.as_ref().is_none_or(|arn| *arn == record.image_arn)
                && filter.image_version.is_none_or(|version| version == record.image_version)
        };
        let place = |record: &MicrovmRecord| (-record.started_at.as_millis(), record.id.clone());
        let after = after.map(|(started_at, id)| (-started_at.as_millis(), id.clone()));
        let microvms = self.microvms();
        let mut found: Vec<_> = microvms.values().filter(wanted).collect();
        found.sort_by_key(|record| place(record));
        let behind =
            found.into_iter().filter(|record| after.as_ref().is_none_or(|after| place(record) > *after));
        Ok(behind.take(limit as usize).map(MicrovmRecord::summary).collect())
    }

    async fn microvms_alive(&self) -> Result<Vec<MicrovmRecord>> {
        let microvms = self.microvms();
        let alive = microvms.values().filter(|record| record.state != MicrovmState::Terminated);
        Ok(alive.cloned().collect())
    }

    fn check_room(&self) -> Result<()> {
        Ok(())
    }

    async fn sweep_ended_microvms(&self, before: Timestamp) -> Result<bool> {
        let ended = |record: &MicrovmRecord| record.terminated_at.is_some_and(|at| at < before);
        self.microvms().retain(|_, record| !ended(record));
        self.changed();
        Ok(false)
    }
}

#[async_trait]
impl ImageVersions for MemoryRecords {
    async fn image_version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<Option<ImageVersionRecord>> {
        let known = |known: &&ImageVersionRecord| known.arn == *arn && known.version == version;
        Ok(self.versions.iter().find(known).cloned())
    }

    async fn image_versions(&self, arn: &ImageArn) -> Result<Vec<ImageVersionRecord>> {
        let mut found: Vec<_> = self.versions.iter().filter(|known| known.arn == *arn).cloned().collect();
        found.sort_by_key(|known| std::cmp::Reverse(known.version));
        Ok(found)
    }
}
