//! ARNs of network connectors, and what connectors say about a guest's way out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::arn::{Region, managed_connector_arn};
use crate::id::AccountId;

/// Number of a connector's version: 1, 2, 3, …; each is immutable.
pub type NetworkConnectorVersion = u32;

/// `arn:aws:lambda:<region>:<account>:network-connector:<id>`, with `:<version>` behind it
/// when it is qualified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkConnectorArn {
    /// Region.
    pub region: Region,
    /// Owner.
    pub account: AccountId,
    /// `nc-<uuid>`.
    pub id: String,
    /// The version that it is qualified with.
    pub version: Option<NetworkConnectorVersion>,
}

impl NetworkConnectorArn {
    /// An unqualified ARN with a new random id.
    pub fn new(region: &str, account: &AccountId) -> Self {
        Self::of(region, account, &format!("nc-{}", uuid::Uuid::new_v4()))
    }

    /// The unqualified ARN of this id.
    pub fn of(region: &str, account: &AccountId, id: &str) -> Self {
        Self { region: region.to_owned(), account: account.clone(), id: id.to_owned(), version: None }
    }

    /// Reads an ARN; `None` when it is not that of an account's network connector (pattern of
    /// `NetworkConnectorArn` in the model).
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, kind, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = match parts.next() {
            None => None,
            Some(text) => {
                let version: NetworkConnectorVersion = text.parse().ok()?;
                Some((version > 0 && version.to_string() == text).then_some(version)?)
            }
        };
        let well_formed = arn == "arn"
            && partition == "aws"
            && service == "lambda"
            && !region.is_empty()
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && kind == "network-connector"
            && !id.is_empty()
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && parts.next().is_none();
        well_formed.then(|| Self {
            region: region.to_owned(),
            account: AccountId::from_stored(account),
            id: id.to_owned(),
            version,
        })
    }

    /// The connector itself.
    pub fn unqualified(&self) -> Self {
        Self { version: None, ..self.clone() }
    }

    /// One version of it.
    pub fn qualified(&self, version: NetworkConnectorVersion) -> Self {
        Self { version: Some(version), ..self.clone() }
    }
}

impl fmt::Display for NetworkConnectorArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, account, id, version } = self;
        write!(f, "arn:aws:lambda:{region}:{account}:network-connector:{id}")?;
        version.map_or(Ok(()), |version| write!(f, ":{version}"))
    }
}

impl TryFrom<String> for NetworkConnectorArn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("not the ARN of a network connector: {text}"))
    }
}

impl From<NetworkConnectorArn> for String {
    fn from(arn: NetworkConnectorArn) -> Self {
        arn.to_string()
    }
}

/// Whether these egress connectors let a guest reach the internet: all of them are the managed one.
/// None at all is the default, which is that one. A connector of the account's own gives no
/// internet, because the VPC that it leads to is not there.
pub fn reaches_internet(egress_connectors: &[String]) -> bool {
    egress_connectors.iter().all(|arn| {
        let region = arn.split(':').nth(3);
        region.is_some_and(|region| *arn == managed_connector_arn(region, "INTERNET_EGRESS"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_reads_back_as_written_with_and_without_its_version() {
        let text = "arn:aws:lambda:us-east-1:000000000000:network-connector:nc-1_a";
        let arn = NetworkConnectorArn::parse(text).unwrap();
        assert_eq!((arn.to_string().as_str(), arn.version), (text, None));
        let qualified = format!("{text}:12");
        assert_eq!(NetworkConnectorArn::parse(&qualified), Some(arn.qualified(12)));
        assert_eq!(arn.qualified(12).to_string(), qualified);
        assert_eq!(arn.qualified(12).unqualified(), arn);
        for bad in [
            "nc-1",
            "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS",
            "arn:aws:lambda:us-east-1:000000000000:microvm-image:x",
            "arn:aws:lambda:us-east-1:000000000000:network-connector:",
            "arn:aws:lambda:us-east-1:000000000000:network-connector:a/b",
            "arn:aws:lambda:us-east-1:000000000000:network-connector:x:0",
            "arn:aws:lambda:us-east-1:000000000000:network-connector:x:01",
            "arn:aws:lambda:us-east-1:000000000000:network-connector:x:1:2",
        ] {
            assert_eq!(NetworkConnectorArn::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_managed_connector_reaches_the_internet() {
        let managed = managed_connector_arn("eu-west-1", "INTERNET_EGRESS");
        let own = NetworkConnectorArn::new("eu-west-1", &AccountId::from_stored("000000000000")).to_string();
        assert!(reaches_internet(&[]));
        assert!(reaches_internet(std::slice::from_ref(&managed)));
        assert!(!reaches_internet(std::slice::from_ref(&own)));
        assert!(!reaches_internet(&[managed, own]));
        assert!(!reaches_internet(&["INTERNET_EGRESS".to_owned()]));
    }
}
