//! Identifiers in requests: what is accepted for an image, a version, a microVM.

use hearth_api::{Error, ImageArn, ImageName, ImageVersion, MicrovmId};
use hearth_records::{MicrovmRecord, Taggable};

use crate::call::Call;
use crate::config::{Context, store_failed};

impl Context {
    /// Reads an `imageIdentifier`: an ARN, or with the lenient setting a bare name.
    pub(crate) fn read_image_arn(&self, call: &Call, identifier: &str) -> Result<ImageArn, Error> {
        if !identifier.starts_with("arn:") {
            let arn = ImageArn {
                region: self.config.region.clone(),
                account: call.caller.account.clone(),
                name: ImageName::from_stored(identifier),
            };
            return match ImageArn::parse(&arn.to_string()) {
                Some(arn) if self.config.lenient_image_names => Ok(arn),
                _ => Err(Error::validation("Malformed ARN - doesn't start with 'arn:'")),
            };
        }
        ImageArn::parse(identifier)
            .ok_or_else(|| Error::validation(format!("Invalid ARN format: {identifier}")))
    }

    /// Reads an `imageIdentifier` and refuses it when the caller may not do `action` to that image.
    /// So one of another account is refused: nothing grants anything on it.
    pub(crate) async fn image_arn(
        &self,
        call: &Call,
        action: &str,
        identifier: &str,
    ) -> Result<ImageArn, Error> {
        let arn = self.read_image_arn(call, identifier)?;
        self.authorize_on(call, action, &Taggable::Image(arn.clone())).await?;
        Ok(arn)
    }

    /// The image of the path, for `action`.
    pub(crate) async fn path_image(&self, call: &Call, action: &str) -> Result<ImageArn, Error> {
        self.image_arn(call, action, call.path("imageIdentifier")).await
    }

    /// The image and version of the path, for `action`; `1` and `1.0` are the same here.
    pub(crate) async fn path_version(
        &self,
        call: &Call,
        action: &str,
    ) -> Result<(ImageArn, ImageVersion), Error> {
        let arn = self.path_image(call, action).await?;
        let text = call.path("imageVersion");
        let version = ImageVersion::parse(text).ok_or_else(|| Error::version_not_found(&arn, text))?;
        Ok((arn, version))
    }

    /// The microVM of the path, if it is of the caller's account, for `action` on its image.
    pub(crate) async fn path_microvm(&self, call: &Call, action: &str) -> Result<MicrovmRecord, Error> {
        let id = MicrovmId::from_stored(call.path("microvmIdentifier"));
        let record = self.services.store.microvm(&id).await.map_err(|error| store_failed(&error))?;
        let record = record.filter(|record| record.account == call.caller.account);
        let record = record.ok_or_else(|| microvm_not_found(&id))?;
        self.authorize_on(call, action, &Taggable::Image(record.image_arn.clone())).await?;
        Ok(record)
    }
}

pub(crate) fn microvm_not_found(id: &MicrovmId) -> Error {
    Error::not_found(format!("MicroVM not found: {id}"))
}
