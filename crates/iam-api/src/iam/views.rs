//! Users, roles and policies as answers have them.

use hearth_identity::entities::{Attachments, Tags};
use hearth_identity::{ManagedPolicy, PolicyVersion, Role, User};
use hearth_service::Xml;

use super::documents::encoded;

/// How much is told of something: lists leave out tags and boundaries (IAM API
/// reference, ListRoles).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Listed,
    Full,
}

pub(super) fn user(user: &User, detail: Detail) -> Xml {
    let xml = Xml::default()
        .text("Path", &user.path)
        .text("UserName", &user.name)
        .text("UserId", &user.id)
        .text("Arn", user.arn())
        .time("CreateDate", user.created_at);
    ending(xml, &user.policies, &user.tags, detail)
}

pub(super) fn role(role: &Role, detail: Detail) -> Xml {
    let xml = Xml::default()
        .text("Path", &role.path)
        .text("RoleName", &role.name)
        .text("RoleId", &role.id)
        .text("Arn", role.arn())
        .time("CreateDate", role.created_at)
        .text("AssumeRolePolicyDocument", encoded(&role.trust))
        .optional("Description", role.description.as_ref())
        .text("MaxSessionDuration", role.maximum_session_seconds);
    ending(xml, &role.policies, &role.tags, detail)
}

fn ending(xml: Xml, policies: &Attachments, all: &Tags, detail: Detail) -> Xml {
    if detail == Detail::Listed {
        return xml;
    }
    let xml = match &policies.boundary {
        None => xml,
        Some(arn) => {
            let boundary = Xml::default()
                .text("PermissionsBoundaryType", "PermissionsBoundaryPolicy")
                .text("PermissionsBoundaryArn", arn);
            xml.element("PermissionsBoundary", boundary)
        }
    };
    tags(xml, all)
}

/// Adds tags, if there are any.
fn tags(xml: Xml, tags: &Tags) -> Xml {
    if tags.is_empty() { xml } else { xml.list("Tags", tags.iter().map(|(key, value)| tag(key, value))) }
}

pub(super) fn tag(key: &str, value: &str) -> Xml {
    Xml::default().text("Key", key).text("Value", value)
}

/// How often something uses a managed policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) attachments: usize,
    pub(super) boundaries: usize,
}

pub(super) fn policy(policy: &ManagedPolicy, usage: Usage, detail: Detail) -> Xml {
    let xml = Xml::default()
        .text("PolicyName", &policy.name)
        .text("PolicyId", &policy.id)
        .text("Arn", policy.arn())
        .text("Path", &policy.path)
        .text("DefaultVersionId", format_args!("v{}", policy.default_version))
        .text("AttachmentCount", usage.attachments)
        .text("PermissionsBoundaryUsageCount", usage.boundaries)
        .text("IsAttachable", true)
        .time("CreateDate", policy.created_at)
        .time("UpdateDate", policy.updated_at);
    match detail {
        Detail::Listed => xml,
        Detail::Full => tags(xml.optional("Description", policy.description.as_ref()), &policy.tags),
    }
}

/// A version; lists leave out the document.
pub(super) fn version(policy: &ManagedPolicy, version: &PolicyVersion, detail: Detail) -> Xml {
    let document = (detail == Detail::Full).then(|| encoded(&version.policy));
    Xml::default()
        .optional("Document", document)
        .text("VersionId", format_args!("v{}", version.number))
        .text("IsDefaultVersion", version.number == policy.default_version)
        .time("CreateDate", version.created_at)
}
