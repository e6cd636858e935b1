//! Who may be asked: the origins of URLs, and what may lead from one to another.

use url::{Host, Url};

use crate::messages::OperatorAddress;
use crate::spec::Failure;

/// Scheme, host and port of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Whether TLS is spoken.
    pub(crate) secure: bool,
    /// Name or IPv4 address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
}

impl Origin {
    /// Of a URL of the schemes `http` and `https` without credentials in it.
    pub(crate) fn of(url: &Url) -> Result<Self, Failure> {
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(Failure::Refused),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Failure::Refused);
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            // Guests have no IPv6.
            Some(Host::Ipv6(_)) | None => return Err(Failure::Refused),
        };
        Ok(Self { secure, host, port: url.port_or_known_default().ok_or(Failure::Refused)? })
    }
}

/// How an origin is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// From the namespace, after DNS and a look at the address.
    Namespace,
    /// By the server, which knows the address from the operator.
    Operator(OperatorAddress),
}

/// What may be asked while one image is fetched.
#[derive(Debug)]
pub(crate) struct Origins {
    registry: Origin,
    from_operator: bool,
}

impl Origins {
    /// Those of an image in this registry.
    pub(crate) fn new(registry: &Url, from_operator: bool) -> Result<Self, Failure> {
        let registry = Origin::of(registry)?;
        if !registry.secure && !from_operator {
            return Err(Failure::Refused);
        }
        Ok(Self { registry, from_operator })
    }

    /// The registry.
    pub(crate) fn registry(&self) -> &Origin {
        &self.registry
    }

    /// How to connect to `target`, to which something at `from` leads. Only the operator's registry
    /// itself leads to the operator's registry: once a fetch has been led elsewhere, it does not
    /// come back into the host's network.
    pub(crate) fn route(&self, from: &Origin, target: &Origin) -> Result<Route, Failure> {
        if self.from_operator && *target == self.registry && *from == self.registry {
            return Ok(Route::Operator(OperatorAddress::Registry));
        }
        if target.secure { Ok(Route::Namespace) } else { Err(Failure::Refused) }
    }
}
