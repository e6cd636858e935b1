//! What the shapes of network connectors have in common, from the service model `lambda-core`
//! 2026-04-30. What the model leaves optional and the service requires all the same is checked by
//! the operations.

use hearth_service::shape::{Member, Pattern, Shape, Text, optional, path, patterned, query, required, text};

use crate::shapes::is_role_arn;

/// The model allows an ARN as well; the service's meaning of that is unknown.
pub(super) const NAME: Pattern = Pattern {
    expression: "[a-zA-Z0-9_-]{1,64}",
    matches: |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    },
};
const OPERATOR_ROLE: Pattern = Pattern {
    expression: r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
    matches: is_operator_role,
};
const SUBNET: Pattern = Pattern {
    expression: "subnet-[0-9a-z]*",
    matches: |text| {
        text.strip_prefix("subnet-")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
    },
};
const SECURITY_GROUP: Pattern = Pattern {
    expression: "sg-[0-9a-zA-Z]*",
    matches: |text| {
        text.strip_prefix("sg-").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric()))
    },
};

/// Like a build role's, but the partition may be empty or have capitals.
fn is_operator_role(text: &str) -> bool {
    text.strip_prefix("arn:").and_then(|rest| rest.split_once(':')).is_some_and(|(partition, rest)| {
        let rest_of_partition = partition.strip_prefix("aws");
        (partition.is_empty()
            || rest_of_partition
                .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-')))
            && is_role_arn(&format!("arn:aws:{rest}"))
    })
}

pub(super) const ROLE: Shape = patterned(0, 10_000, OPERATOR_ROLE);
pub(super) const CLIENT_TOKEN: Shape = text(1, 64);
pub(super) const CONFIGURATION: Shape = Shape::Union(&[optional(
    "VpcEgressConfiguration",
    &Shape::Structure(&[
        optional("SubnetIds", &Shape::List(&patterned(0, 1024, SUBNET), 1, 16)),
        optional("SecurityGroupIds", &Shape::List(&patterned(0, 1024, SECURITY_GROUP), 0, 16)),
        optional("NetworkProtocol", &Shape::Enumeration(&["IPv4", "DualStack"])),
        optional(
            "AssociatedComputeResourceTypes",
            &Shape::List(&Shape::Enumeration(&["MicroVm", "WebFunction"]), 1, 1),
        ),
        optional(
            "ElasticIpConfiguration",
            &Shape::Structure(&[required("Type", &Shape::Enumeration(&["None", "ServiceManaged"]))]),
        ),
    ]),
)]);

pub(super) const MAX_ITEMS: Member = query("MaxItems", &Shape::Integer(1, 100));
pub(super) const MARKER: Member = query("Marker", &Shape::Text(Text::ANY));
pub(super) const STATE: Member = query(
    "State",
    &Shape::Enumeration(&["PENDING", "ACTIVE", "INACTIVE", "FAILED", "DELETING", "DELETE_FAILED"]),
);

/// The connector, by name, id or ARN; what that is, `identifier` says.
pub(super) const IDENTIFIER: Member = path("identifier", &Shape::Text(Text::ANY));

/// Operations on a connector that take nothing else.
pub(super) const IDENTIFIER_ONLY: &[Member] = &[IDENTIFIER];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_roles_follow_the_pattern_of_the_model() {
        for good in ["arn:aws:iam::000000000000:role/x", "arn:aws-US-gov:iam::123456789012:role/path/to/x_y"]
        {
            assert!(is_operator_role(good), "{good}");
        }
        assert!(is_operator_role("arn::iam::000000000000:role/x"));
        for bad in ["", "role", "arn:azure:iam::000000000000:role/x", "arn:aws:iam::0:role/x"] {
            assert!(!is_operator_role(bad), "{bad}");
        }
    }
}
