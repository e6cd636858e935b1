//! The traits of the crate `records`, by the methods of [`Store`].

use crate::Store;
use async_trait::async_trait;
use hearth_api::{
    AccountId, BuildId, ImageArn, ImageVersion, ImageVersionStatus, MicrovmId, NetworkConnectorArn,
    NetworkConnectorVersion, Timestamp,
};
use hearth_records::{
    BegunUpdate, BuildRecord, Change, ClientToken, ConnectorPage, Connectors, DeletedNetworkConnector,
    Identities, IdentityRow, IdentityWrite, ImageRecord, ImageVersionRecord, ImageVersions, Images,
    InsertedImage, InsertedMicrovm, InsertedNetworkConnector, MicrovmFilter, MicrovmRecord, MicrovmSummary,
    Microvms, NetworkConnectorKey, NetworkConnectorRecord, NetworkConnectorVersionRecord, Quotas, Result,
    Taggable, TokenClaim, Tokens, UpdatedNetworkConnector,
};
use std::collections::BTreeMap;

#[async_trait]
impl Microvms for Store {
    async fn insert_microvm(
        &self,
        record: &MicrovmRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<InsertedMicrovm> {
        Ok(Store::insert_microvm(self, record, token, quotas).await?)
    }

    fn microvm_changes(&self) -> u64 {
        Store::microvm_changes(self)
    }

    async fn update_microvm(&self, record: &MicrovmRecord) -> Result<()> {
        Ok(Store::update_microvm(self, record).await?)
    }

    async fn revoke_tokens(&self, id: &MicrovmId) -> Result<Option<u64>> {
        Ok(Store::revoke_tokens(self, id).await?)
    }

    async fn token_revocations(&self) -> Result<Vec<(MicrovmId, u64)>> {
        Ok(Store::token_revocations(self).await?)
    }

    async fn output_position(&self, id: &MicrovmId) -> Result<Option<u64>> {
        Ok(Store::output_position(self, id).await?)
    }

    async fn microvm(&self, id: &MicrovmId) -> Result<Option<MicrovmRecord>> {
        Ok(Store::microvm(self, id).await?)
    }

    async fn microvms(
        &self,
        filter: &MicrovmFilter,
        after: Option<(Timestamp, &MicrovmId)>,
        limit: u32,
    ) -> Result<Vec<MicrovmSummary>> {
        Ok(Store::microvms(self, filter, after, limit).await?)
    }

    async fn microvms_alive(&self) -> Result<Vec<MicrovmRecord>> {
        Ok(Store::microvms_alive(self).await?)
    }

    fn check_room(&self) -> Result<()> {
        Ok(Store::check_room(self)?)
    }

    async fn sweep_ended_microvms(&self, before: Timestamp) -> Result<bool> {
        Ok(Store::sweep_ended_microvms(self, before).await?)
    }
}

#[async_trait]
impl ImageVersions for Store {
    async fn image_version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<Option<ImageVersionRecord>> {
        Ok(Store::image_version(self, arn, version).await?)
    }

    async fn image_versions(&self, arn: &ImageArn) -> Result<Vec<ImageVersionRecord>> {
        Ok(Store::image_versions(self, arn).await?)
    }
}

#[async_trait]
impl Images for Store {
    async fn insert_image(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<InsertedImage> {
        Ok(Store::insert_image(self, image, version, build, token, quotas).await?)
    }

    async fn image(&self, arn: &ImageArn) -> Result<Option<ImageRecord>> {
        Ok(Store::image(self, arn).await?)
    }

    async fn images(&self, account: &AccountId, after: Option<&str>, limit: u32) -> Result<Vec<ImageRecord>> {
        Ok(Store::images(self, account, after, limit).await?)
    }

    async fn all_images(&self) -> Result<Vec<ImageRecord>> {
        Ok(Store::all_images(self).await?)
    }

    async fn finish_build(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
    ) -> Result<()> {
        Ok(Store::finish_build(self, image, version, build).await?)
    }

    async fn begin_build(&self, version: &ImageVersionRecord, build: &BuildRecord) -> Result<()> {
        Ok(Store::begin_build(self, version, build).await?)
    }

    async fn delete_image(&self, arn: &ImageArn) -> Result<()> {
        Ok(Store::delete_image(self, arn).await?)
    }

    async fn unfinished_deletions(&self) -> Result<Vec<(ImageArn, ImageVersion)>> {
        Ok(Store::unfinished_deletions(self).await?)
    }

    async fn builds(&self, arn: &ImageArn, version: ImageVersion) -> Result<Vec<BuildRecord>> {
        Ok(Store::builds(self, arn, version).await?)
    }

    async fn build(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        id: &BuildId,
    ) -> Result<Option<BuildRecord>> {
        Ok(Store::build(self, arn, version, id).await?)
    }

    async fn unfinished_builds(&self) -> Result<Vec<BuildRecord>> {
        Ok(Store::unfinished_builds(self).await?)
    }

    async fn begin_update(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<BegunUpdate> {
        Ok(Store::begin_update(self, image, version, build, token, quotas).await?)
    }

    async fn set_version_status(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        status: ImageVersionStatus,
        now: Timestamp,
    ) -> Result<Change> {
        Ok(Store::set_version_status(self, arn, version, status, now).await?)
    }

    async fn begin_version_deletion(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        now: Timestamp,
    ) -> Result<Change> {
        Ok(Store::begin_version_deletion(self, arn, version, now).await?)
    }

    async fn finish_version_deletion(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        now: Timestamp,
    ) -> Result<()> {
        Ok(Store::finish_version_deletion(self, arn, version, now).await?)
    }

    async fn begin_image_deletion(&self, arn: &ImageArn, now: Timestamp) -> Result<Change> {
        Ok(Store::begin_image_deletion(self, arn, now).await?)
    }
}

#[async_trait]
impl Connectors for Store {
    async fn insert_network_connector(
        &self,
        connector: &NetworkConnectorRecord,
        token: Option<ClientToken>,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Result<InsertedNetworkConnector> {
        Ok(Store::insert_network_connector(self, connector, token, now, quotas).await?)
    }

    async fn network_connector(
        &self,
        key: &NetworkConnectorKey<'_>,
        now: Timestamp,
    ) -> Result<Option<NetworkConnectorRecord>> {
        Ok(Store::network_connector(self, key, now).await?)
    }

    async fn network_connectors(
        &self,
        account: &AccountId,
        page: &ConnectorPage<&str>,
    ) -> Result<Vec<NetworkConnectorRecord>> {
        Ok(Store::network_connectors(self, account, page).await?)
    }

    async fn network_connector_version(
        &self,
        arn: &NetworkConnectorArn,
        version: NetworkConnectorVersion,
    ) -> Result<Option<NetworkConnectorVersionRecord>> {
        Ok(Store::network_connector_version(self, arn, version).await?)
    }

    async fn network_connector_versions(
        &self,
        arn: &NetworkConnectorArn,
        page: &ConnectorPage<NetworkConnectorVersion>,
    ) -> Result<Vec<NetworkConnectorVersionRecord>> {
        Ok(Store::network_connector_versions(self, arn, page).await?)
    }

    async fn update_network_connector(
        &self,
        connector: &NetworkConnectorRecord,
        former: NetworkConnectorVersion,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<UpdatedNetworkConnector> {
        Ok(Store::update_network_connector(self, connector, former, token, quotas).await?)
    }

    async fn delete_network_connector(
        &self,
        arn: &NetworkConnectorArn,
        gone_at: Timestamp,
    ) -> Result<DeletedNetworkConnector> {
        Ok(Store::delete_network_connector(self, arn, gone_at).await?)
    }

    async fn sweep_network_connectors(&self, before: Timestamp) -> Result<bool> {
        Ok(Store::sweep_network_connectors(self, before).await?)
    }
}

#[async_trait]
impl Identities for Store {
    async fn identities(&self) -> Result<Vec<IdentityRow>> {
        Ok(Store::identities(self).await?)
    }

    async fn write_identities(&self, writes: &[IdentityWrite]) -> Result<()> {
        Ok(Store::write_identities(self, writes).await?)
    }
}

#[async_trait]
impl Tokens for Store {
    async fn client_token(&self, token: &ClientToken) -> Result<TokenClaim> {
        Ok(Store::client_token(self, token).await?)
    }

    async fn sweep_client_tokens(&self, before: Timestamp) -> Result<bool> {
        Ok(Store::sweep_client_tokens(self, before).await?)
    }
}

#[async_trait]
impl hearth_records::Tags for Store {
    async fn tags(&self, resource: &Taggable) -> Result<Option<BTreeMap<String, String>>> {
        Ok(Store::tags(self, resource).await?)
    }

    async fn replace_tags(
        &self,
        resource: &Taggable,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) -> Result<bool> {
        Ok(Store::replace_tags(self, resource, before, after).await?)
    }
}
