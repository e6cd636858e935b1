//! Managed policies that every account has. AWS has more than a thousand; these are the ones without which scripts
//! that only want "everything" or "everything of one service" would fail. The texts are ours.

use std::sync::LazyLock;

use hearth_api::{AccountId, Timestamp};
use hearth_iam::DocumentKind;

use crate::entities::{ManagedPolicy, Policy, PolicyVersion, Tags};

/// Name and what is allowed on everything.
const POLICIES: [(&str, &[&str]); 7] = [
    ("AdministratorAccess", &["*"]),
    ("AWSLambda_FullAccess", &["lambda:*", "logs:*", "iam:PassRole", "iam:ListRoles", "iam:GetRole"]),
    ("AmazonS3FullAccess", &["s3:*"]),
    ("AmazonS3ReadOnlyAccess", &["s3:Get*", "s3:List*"]),
    ("CloudWatchLogsFullAccess", &["logs:*"]),
    (
        "CloudWatchLogsReadOnlyAccess",
        &["logs:Describe*", "logs:Get*", "logs:FilterLogEvents", "logs:List*", "logs:StartLiveTail"],
    ),
    ("IAMFullAccess", &["iam:*"]),
];

/// In the order of their names.
pub(crate) fn policies() -> &'static [ManagedPolicy] {
    static ALL: LazyLock<Vec<ManagedPolicy>> = LazyLock::new(|| POLICIES.iter().map(policy).collect());
    &ALL
}

fn policy((name, actions): &(&str, &[&str])) -> ManagedPolicy {
    let statement = serde_json::json!({ "Effect": "Allow", "Action": actions, "Resource": "*" });
    let text = serde_json::json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
    let policy = Policy::parse(&text, DocumentKind::Identity, usize::MAX);
    let policy = policy.expect("invariant: our own policies are well-formed, see the test");
    let created_at = Timestamp::from_millis(0);
    let digits: String = name.bytes().map(|byte| char::from(b'A' + byte % 26)).take(17).collect();
    ManagedPolicy {
        account: AccountId::from_stored("aws"),
        path: "/".to_owned(),
        name: (*name).to_owned(),
        id: format!("ANPA{digits:A<17}"),
        created_at,
        updated_at: created_at,
        description: None,
        versions: vec![PolicyVersion { number: 1, policy, created_at }],
        default_version: 1,
        last_version: 1,
        tags: Tags::new(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_are_well_formed() {
        let all = super::policies();
        assert!(all.iter().all(|policy| policy.default().is_some()));
        assert!(all.iter().any(|policy| policy.arn() == "arn:aws:iam::aws:policy/AdministratorAccess"));
    }
}
