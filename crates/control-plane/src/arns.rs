//! Identifiers in requests: what is accepted for an image, a version, a microVM.

use hearth_api::{Error, ErrorKind, ImageArn, ImageName, ImageVersion, MicrovmId};
use hearth_store::MicrovmRecord;

use crate::call::Call;
use crate::config::{Context, store_failed};

impl Context {
    /// Reads an `imageIdentifier`: an ARN of the caller's account, or with the lenient setting a bare name.
    pub(crate) fn image_arn(&self, call: &Call, identifier: &str) -> Result<ImageArn, Error> {
        if !identifier.starts_with("arn:") {
            let arn = ImageArn {
                region: self.config.region.clone(),
                account: call.account.clone(),
                name: ImageName::from_stored(identifier),
            };
            return match ImageArn::parse(&arn.to_string()) {
                Some(arn) if self.config.lenient_image_names => Ok(arn),
                _ => Err(Error::validation("Malformed ARN - doesn't start with 'arn:'")),
            };
        }
        let arn = ImageArn::parse(identifier)
            .ok_or_else(|| Error::validation(format!("Invalid ARN format: {identifier}")))?;
        if arn.account == call.account || arn.account.as_str() == "aws" {
            Ok(arn)
        } else {
            let message = format!("Account {} has no access to {arn}.", call.account);
            Err(Error::new(ErrorKind::AccessDenied, message))
        }
    }

    /// The image of the path.
    pub(crate) fn path_image(&self, call: &Call) -> Result<ImageArn, Error> {
        self.image_arn(call, call.path("imageIdentifier"))
    }

    /// The image and version of the path; `1` and `1.0` are the same here.
    pub(crate) fn path_version(&self, call: &Call) -> Result<(ImageArn, ImageVersion), Error> {
        let arn = self.path_image(call)?;
        let text = call.path("imageVersion");
        let version = ImageVersion::parse(text).ok_or_else(|| version_not_found(&arn, text))?;
        Ok((arn, version))
    }

    /// The microVM of the path, if it is the caller's.
    pub(crate) async fn path_microvm(&self, call: &Call) -> Result<MicrovmRecord, Error> {
        let id = MicrovmId::from_stored(call.path("microvmIdentifier"));
        let record = self.services.store.microvm(&id).await.map_err(|error| store_failed(&error))?;
        record.filter(|record| record.account == call.account).ok_or_else(|| microvm_not_found(&id))
    }
}

pub(crate) fn microvm_not_found(id: &MicrovmId) -> Error {
    Error::not_found(format!("MicroVM not found: {id}"))
}

pub(crate) fn image_not_found(arn: &ImageArn) -> Error {
    Error::not_found(format!("MicroVMImage not found for MicroVMImageID: {arn}"))
}

pub(crate) fn version_not_found(arn: &ImageArn, version: impl std::fmt::Display) -> Error {
    Error::not_found(format!("MicroVMImage not found for MicroVMImage: {arn}, Version: {version}"))
}
