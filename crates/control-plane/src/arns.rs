//! Identifiers in requests: what is accepted for an image, a microVM, a tagged resource.

use hearth_api::{ImageArn, ImageName, MicrovmId, NetworkConnectorArn};
use hearth_records::{MicrovmRecord, Taggable};
use hearth_service::{Asked, Error};

use crate::config::Context;

impl Context {
    /// Reads an `imageIdentifier`: an ARN, or with the lenient setting a bare name.
    pub(crate) fn read_image_arn(&self, asked: &Asked, identifier: &str) -> Result<ImageArn, Error> {
        if !identifier.starts_with("arn:") {
            let arn = ImageArn {
                region: self.config.region.clone(),
                account: asked.caller().account.clone(),
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

    /// The image that the request names. One of another account is refused by the authorisation:
    /// nothing grants anything on it.
    pub(crate) fn image_of(&self, asked: &Asked) -> Result<ImageArn, Error> {
        self.read_image_arn(asked, asked.input().required("imageIdentifier"))
    }

    /// The microVM that the request names, if it is of the caller's account.
    pub(crate) async fn microvm_of(&self, asked: &Asked) -> Result<MicrovmRecord, Error> {
        let id = MicrovmId::from_stored(asked.input().required("microvmIdentifier"));
        let record = self.services.store.microvm(&id).await?;
        let record = record.filter(|record| record.account == asked.caller().account);
        record.ok_or_else(|| microvm_not_found(&id))
    }

    /// What `Resource` names; its ARN's form was checked.
    pub(crate) fn tagged_of(&self, asked: &Asked) -> Result<Taggable, Error> {
        let text = asked.input().required("Resource");
        match NetworkConnectorArn::parse(text) {
            None => self.read_image_arn(asked, text).map(Taggable::Image),
            Some(arn) => Ok(Taggable::NetworkConnector(arn)),
        }
    }
}

pub(crate) fn microvm_not_found(id: &MicrovmId) -> Error {
    Error::not_found(format!("MicroVM not found: {id}"))
}
