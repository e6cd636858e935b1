//! Global condition keys: which ones a request has, by whom it is made (IAM user guide, "AWS global
//! condition context keys"). [`GLOBAL_KEYS`] is the whole table; `docs/identity.md` shows it, and a
//! test holds both against the code.

use hearth_api::AccountId;
use hearth_iam::Request;

use crate::entities::Tags;

/// Who makes a request, as far as it decides which keys there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The root user with its key.
    Root,
    /// A user with an access key.
    User,
    /// A session of a user (GetSessionToken).
    UserSession,
    /// A session of a role (AssumeRole).
    RoleSession,
    /// The service, with a build or execution role.
    ServiceRole,
    /// The service itself, when it assumes a role.
    Service,
}

/// When a key is in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// In requests of these; a text says more.
    By(&'static [By], &'static str),
    /// Never here; a text says why.
    Never(&'static str),
}

const ALL: &[By] = &[By::Root, By::User, By::UserSession, By::RoleSession, By::ServiceRole, By::Service];
const CLIENTS: &[By] = &[By::Root, By::User, By::UserSession, By::RoleSession];
const OF_ACCOUNTS: &[By] = &[By::Root, By::User, By::UserSession, By::RoleSession, By::ServiceRole];
const USERS: &[By] = &[By::User, By::UserSession];
const TAGGED: &[By] = &[By::User, By::UserSession, By::RoleSession, By::ServiceRole];
const TEMPORARY: &[By] = &[By::UserSession, By::RoleSession, By::ServiceRole];
const SERVICE: &[By] = &[By::Service];

const NO_ORGANISATION: &str = "there are no organisations";
const NO_VPC: &str = "there are no VPC endpoints";
const NO_MFA: &str = "there are no MFA devices";
const NO_FEDERATION: &str = "nobody is federated";
const NO_FORWARDING: &str = "no service calls another with the caller's rights";
const NO_MCP: &str = "there is no managed MCP server";
const NO_SUCH_SERVICE: &str = "the service that sets it is not here";

/// Every global key of AWS.
pub const GLOBAL_KEYS: &[(&str, Present)] = &[
    ("aws:PrincipalArn", Present::By(OF_ACCOUNTS, "of a session that of its role")),
    ("aws:PrincipalAccount", Present::By(OF_ACCOUNTS, "")),
    ("aws:PrincipalType", Present::By(OF_ACCOUNTS, "`Account`, `User` or `AssumedRole`")),
    ("aws:PrincipalIsAWSService", Present::By(ALL, "`true` for the service itself")),
    ("aws:PrincipalServiceName", Present::By(SERVICE, "`lambda.amazonaws.com`")),
    ("aws:PrincipalServiceNamesList", Present::By(SERVICE, "`lambda.amazonaws.com`, and that of the Region")),
    ("aws:PrincipalTag/…", Present::By(TAGGED, "tags of the user or role, and those passed to AssumeRole")),
    ("aws:PrincipalOrgID", Present::Never(NO_ORGANISATION)),
    ("aws:PrincipalOrgPaths", Present::Never(NO_ORGANISATION)),
    (
        "aws:userid",
        Present::By(OF_ACCOUNTS, "account, unique id, or that of the role with the session's name"),
    ),
    ("aws:username", Present::By(USERS, "")),
    ("aws:TokenIssueTime", Present::By(TEMPORARY, "")),
    ("aws:MultiFactorAuthPresent", Present::By(TEMPORARY, "`false`")),
    ("aws:MultiFactorAuthAge", Present::Never(NO_MFA)),
    ("aws:FederatedProvider", Present::Never(NO_FEDERATION)),
    ("aws:SignInSessionArn", Present::Never("there is no console to sign in to")),
    ("aws:SourceIdentity", Present::Never("AssumeRole refuses SourceIdentity")),
    ("aws:AssumedRoot", Present::Never("AssumeRoot is not served")),
    ("aws:ChatbotSourceArn", Present::Never(NO_SUCH_SERVICE)),
    ("aws:Ec2InstanceSourceVpc", Present::Never(NO_SUCH_SERVICE)),
    ("aws:Ec2InstanceSourcePrivateIPv4", Present::Never(NO_SUCH_SERVICE)),
    ("aws:SourceIp", Present::By(CLIENTS, "behind a trusted proxy the address that it tells")),
    ("aws:SourceVpc", Present::Never(NO_VPC)),
    ("aws:SourceVpcArn", Present::Never(NO_VPC)),
    ("aws:SourceVpce", Present::Never(NO_VPC)),
    ("aws:VpceAccount", Present::Never(NO_VPC)),
    ("aws:VpceOrgID", Present::Never(NO_VPC)),
    ("aws:VpceOrgPaths", Present::Never(NO_VPC)),
    ("aws:VpcSourceIp", Present::Never(NO_VPC)),
    (
        "aws:ResourceAccount",
        Present::By(
            ALL,
            "not for resources of AWS itself; the caller's own for actions on `*` and new buckets",
        ),
    ),
    ("aws:ResourceOrgID", Present::Never(NO_ORGANISATION)),
    ("aws:ResourceOrgPaths", Present::Never(NO_ORGANISATION)),
    (
        "aws:ResourceTag/…",
        Present::By(
            OF_ACCOUNTS,
            "where the resource has tags: images, connectors, users, roles, policies, log groups",
        ),
    ),
    ("aws:RequestTag/…", Present::By(CLIENTS, "where the request has tags, but for TagLogGroup")),
    (
        "aws:TagKeys",
        Present::By(
            CLIENTS,
            "where the request has tags or names keys of some, but for TagLogGroup and UntagLogGroup",
        ),
    ),
    ("aws:CalledVia", Present::Never(NO_FORWARDING)),
    ("aws:CalledViaFirst", Present::Never(NO_FORWARDING)),
    ("aws:CalledViaLast", Present::Never(NO_FORWARDING)),
    ("aws:CalledViaAWSMCP", Present::Never(NO_MCP)),
    ("aws:ViaAWSMCPService", Present::Never(NO_MCP)),
    ("aws:ViaAWSService", Present::By(ALL, "`false`, as for service roles on AWS")),
    ("aws:CurrentTime", Present::By(ALL, "")),
    ("aws:EpochTime", Present::By(ALL, "")),
    ("aws:RequestedRegion", Present::By(ALL, "the server's; `us-east-1` for IAM")),
    ("aws:SecureTransport", Present::By(ALL, "`true` behind a proxy that speaks TLS, and for the service")),
    ("aws:UserAgent", Present::By(CLIENTS, "where the client sends it")),
    ("aws:referer", Present::By(CLIENTS, "where the client sends it")),
    ("aws:SourceAccount", Present::By(SERVICE, "account of what the role is for")),
    ("aws:SourceArn", Present::By(SERVICE, "image or network connector that the role is for")),
    ("aws:SourceOrgID", Present::Never(NO_ORGANISATION)),
    ("aws:SourceOrgPaths", Present::Never(NO_ORGANISATION)),
];

/// What the keys of every request follow from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    pub(crate) at: jiff::Timestamp,
    pub(crate) region: &'a str,
    /// Whether TLS led to the server.
    pub(crate) secure: bool,
    /// When the temporary credentials were issued, if they are ones.
    pub(crate) issued_at: Option<jiff::Timestamp>,
    pub(crate) principal_tags: &'a Tags,
    /// Account of the caller, which has what no ARN says the owner of.
    pub(crate) account: Option<&'a AccountId>,
}

impl Circumstances<'_> {
    pub(crate) fn add_to(&self, mut request: Request) -> Request {
        // IAM is global: its Region is that of its endpoint (user guide, `aws:RequestedRegion`).
        let region = if request.action().starts_with("iam:") { "us-east-1" } else { self.region };
        let region = region.to_owned();
        let secure = if self.secure { "true" } else { "false" };
        let owner = owner(request.resource(), self.account);
        request = request
            .with("aws:CurrentTime", [self.at.to_string()])
            .with("aws:EpochTime", [self.at.as_second().to_string()])
            .with("aws:RequestedRegion", [region])
            .with("aws:SecureTransport", [secure])
            .with("aws:ViaAWSService", ["false"])
            .with("aws:ResourceAccount", owner);
        for (key, value) in self.principal_tags {
            request = request.with(&format!("aws:PrincipalTag/{key}"), [value.clone()]);
        }
        if let Some(issued_at) = self.issued_at {
            request = request
                .with("aws:TokenIssueTime", [issued_at.to_string()])
                .with("aws:MultiFactorAuthPresent", ["false"]);
        }
        request
    }
}

/// Account of a resource: that of its ARN; the caller's where there is none, as in S3, whose gate
/// knows the buckets' owners; none for what AWS itself has.
fn owner(resource: &str, caller: Option<&AccountId>) -> Option<String> {
    match resource.split(':').nth(4) {
        None | Some("") => caller.map(ToString::to_string),
        Some("aws") => None,
        Some(account) => Some(account.to_owned()),
    }
}

/// The table as the documentation shows it.
#[cfg(test)]
fn table() -> String {
    let name = |by: &By| match by {
        By::Root => "root user",
        By::User => "users",
        By::UserSession => "their sessions",
        By::RoleSession => "sessions of roles",
        By::ServiceRole => "service roles",
        By::Service => "the service in trust policies",
    };
    let rows = GLOBAL_KEYS.iter().map(|(key, present)| match present {
        Present::Never(why) => format!("| `{key}` | never: {why} | |"),
        Present::By(by, more) => {
            let of = match *by {
                ALL => "always".to_owned(),
                CLIENTS => "requests of clients".to_owned(),
                OF_ACCOUNTS => "always but for the service itself".to_owned(),
                some => some.iter().map(name).collect::<Vec<_>>().join(", "),
            };
            format!("| `{key}` | {of} | {more} |")
        }
    });
    ["| Key | Present in | Value |".to_owned(), "|---|---|---|".to_owned()]
        .into_iter()
        .chain(rows)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_documentation_has_the_table_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/identity.md");
        let text = std::fs::read_to_string(path).unwrap();
        let table = super::table();
        assert!(text.contains(&table), "docs/identity.md must have this table:\n{table}");
    }
}
