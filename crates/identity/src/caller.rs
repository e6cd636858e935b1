//! Who made a request, and under which circumstances.

use std::net::IpAddr;
use std::sync::Arc;

use hearth_api::AccountId;
use hearth_iam::{Principal, Request};
use hearth_records::Author;
use jiff::Timestamp;

use crate::conditions::Circumstances;
use crate::entities::Tags;
use crate::session::Session;

/// Who made a request, and under which circumstances.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Access key that signed.
    pub access_key: String,
    /// Account that the caller belongs to.
    pub account: AccountId,
    /// Who that is.
    pub principal: Principal,
    /// The temporary credentials that signed, if they were ones.
    pub session: Option<std::sync::Arc<Session>>,
    /// Where the request came from, when that is known.
    pub source_ip: Option<IpAddr>,
    /// Whether it came over TLS, to a proxy of ours.
    pub secure: bool,
    /// `User-Agent` of the request.
    pub user_agent: Option<String>,
    /// `Referer` of the request.
    pub referer: Option<String>,
    /// Region that the request is for.
    pub region: Arc<str>,
    /// Tags of the user, or of the session and its role.
    pub tags: Tags,
    /// When it came.
    pub at: Timestamp,
}

impl Caller {
    /// Whether it is the root user of an account.
    pub fn is_root(&self) -> bool {
        matches!(self.principal, Principal::Root { .. })
    }

    /// As whom later effects of its request are to be authorised.
    pub fn author(&self) -> Author {
        Author { arn: self.principal.arn(), id: self.principal.id().map(str::to_owned) }
    }

    /// Whether a policy has a say in what it may do in its own account.
    fn is_limited(&self) -> bool {
        !self.is_root() || self.session.as_ref().is_some_and(|session| session.policies.is_some())
    }

    /// Whether it may do everything to this resource without any policy being asked: the root user
    /// of the account that has it. So the most frequent case costs nothing; for all others there is
    /// [`crate::Identities::authorize`].
    pub fn rules(&self, resource: &str) -> bool {
        let owner = resource.split(':').nth(4).unwrap_or_default();
        !self.is_limited() && (owner.is_empty() || owner == self.account.as_str())
    }

    /// The question whether this caller may do `action`, such as `lambda:RunMicrovm`, to
    /// `resource`: an ARN, or `*` for actions that have none. The global condition keys of the
    /// request are set (IAM user guide, "AWS global condition context keys"); keys of the resource
    /// and of the parameters are to be added with [`Request::with`].
    pub fn request(&self, action: impl Into<String>, resource: impl Into<String>) -> Request {
        let circumstances = Circumstances {
            at: self.at,
            region: &self.region,
            secure: self.secure,
            issued_at: self.session.as_ref().map(|session| session.issued_at.0),
            principal_tags: &self.tags,
            account: Some(&self.account),
        };
        circumstances
            .add_to(Request::new(self.principal.clone(), action, resource))
            .with("aws:SourceIp", self.source_ip.map(|address| address.to_canonical().to_string()))
            .with("aws:UserAgent", self.user_agent.clone())
            .with("aws:referer", self.referer.clone())
    }
}
