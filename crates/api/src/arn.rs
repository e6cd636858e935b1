//! Amazon Resource Names of images and managed resources.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, ImageName};

/// A Region name such as `us-east-1`.
pub type Region = String;

/// `arn:aws:lambda:<region>:<account>:microvm-image:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageArn {
    /// Region.
    pub region: Region,
    /// Owner; `aws` for managed images.
    pub account: AccountId,
    /// Name.
    pub name: ImageName,
}

impl ImageArn {
    /// Reads an ARN; `None` when it is not that of a microVM image.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(7, ':');
        let (arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, kind, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let well_formed = arn == "arn"
            && partition.starts_with("aws")
            && service == "lambda"
            && kind == "microvm-image"
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        well_formed.then(|| Self {
            region: region.to_owned(),
            account: AccountId::from_stored(account),
            name: ImageName::from_stored(name),
        })
    }
}

impl fmt::Display for ImageArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:lambda:{}:{}:microvm-image:{}", self.region, self.account, self.name)
    }
}

impl TryFrom<String> for ImageArn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("not the ARN of a microVM image: {text}"))
    }
}

impl From<ImageArn> for String {
    fn from(arn: ImageArn) -> Self {
        arn.to_string()
    }
}

/// ARN of the managed base image of a Region (the service lists exactly one, `al2023-1`).
pub fn managed_base_image_arn(region: &str) -> String {
    format!("arn:aws:lambda:{region}:aws:microvm-image:al2023-1")
}

/// ARN of a managed network connector such as `INTERNET_EGRESS`.
pub fn managed_connector_arn(region: &str, name: &str) -> String {
    format!("arn:aws:lambda:{region}:aws:network-connector:aws-network-connector:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_arn_reads_back_as_written_and_others_are_refused() {
        let text = "arn:aws:lambda:us-east-1:000000000000:microvm-image:my-app_1";
        assert_eq!(ImageArn::parse(text).unwrap().to_string(), text);
        for bad in [
            "my-app",
            "arn:aws:lambda:us-east-1:0:function:x",
            "arn:aws:lambda:r:a:microvm-image:",
            "arn:aws:lambda:r:a:microvm-image:a/b",
        ] {
            assert!(ImageArn::parse(bad).is_none(), "{bad}");
        }
    }
}
