//! Records that cannot always be written.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use hearth_api::{MicrovmId, Timestamp};

use crate::{
    Actor, ClientToken, InsertedMicrovm, MicrovmFilter, MicrovmRecord, MicrovmSummary, Microvms, Origin,
    Quotas, Result, Written,
};

/// Called before the record of a microVM is changed; what it refuses is not written.
pub type BeforeWrite =
    Box<dyn Fn(&MicrovmRecord) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// Others' microVMs, behind a guard.
pub struct Guarded {
    inner: Arc<dyn Microvms>,
    before_write: BeforeWrite,
}

impl Guarded {
    /// Each change of a microVM in `inner` passes the guard first.
    pub fn new(inner: Arc<dyn Microvms>, before_write: BeforeWrite) -> Arc<Self> {
        Arc::new(Self { inner, before_write })
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
    }
}

#[async_trait]
impl Microvms for Guarded {
    async fn insert_microvm(
        &self,
        record: &MicrovmRecord,
        payload: Option<&[u8]>,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<InsertedMicrovm> {
        self.inner.insert_microvm(record, payload, actor, token, quotas).await
    }

    async fn sync(&self) -> Result<()> {
        self.inner.sync().await
    }

    async fn put_payload(&self, id: &MicrovmId, sealed: &[u8]) -> Result<()> {
        self.inner.put_payload(id, sealed).await
    }

    async fn payload(&self, id: &MicrovmId) -> Result<Option<Vec<u8>>> {
        self.inner.payload(id).await
    }

    fn microvm_changes(&self) -> u64 {
        self.inner.microvm_changes()
    }

    async fn change_microvm(
        &self,
        was: &MicrovmRecord,
        to: &MicrovmRecord,
        origin: &Origin,
    ) -> Result<Written<MicrovmRecord>> {
        (self.before_write)(to).await?;
        self.inner.change_microvm(was, to, origin).await
    }

    async fn revoke_tokens(&self, id: &MicrovmId, actor: &Actor) -> Result<Option<u64>> {
        self.inner.revoke_tokens(id, actor).await
    }

    async fn token_revocations(&self) -> Result<Vec<(MicrovmId, u64)>> {
        self.inner.token_revocations().await
    }

    async fn output_position(&self, id: &MicrovmId) -> Result<Option<u64>> {
        self.inner.output_position(id).await
    }

    async fn microvm(&self, id: &MicrovmId) -> Result<Option<MicrovmRecord>> {
        self.inner.microvm(id).await
    }

    async fn microvms(
        &self,
        filter: &MicrovmFilter,
        after: Option<(Timestamp, &MicrovmId)>,
        limit: u32,
    ) -> Result<Vec<MicrovmSummary>> {
        self.inner.microvms(filter, after, limit).await
    }

    async fn microvms_alive(&self) -> Result<Vec<MicrovmRecord>> {
        self.inner.microvms_alive().await
    }

    fn check_room(&self) -> Result<()> {
        self.inner.check_room()
    }

    async fn sweep_ended_microvms(&self, before: Timestamp) -> Result<bool> {
        self.inner.sweep_ended_microvms(before).await
    }
}
