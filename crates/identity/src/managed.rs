//! Managed policies that every account has. AWS has more than a thousand; these are the ones
//! without which scripts that only want "everything" or "everything of one service" would
//! fail. The texts are ours.

use std::sync::LazyLock;

use hearth_api::{AccountId, Timestamp};
use hearth_iam::DocumentKind;

use crate::entities::{ManagedPolicy, Policy, PolicyVersion, Tags};

/// Path and name, and what is allowed on everything.
const POLICIES: [(&str, &str, &[&str]); 10] = [
    ("AdministratorAccess", "Action", &["*"]),
    ("AmazonS3FullAccess", "Action", &["s3:*"]),
    ("AmazonS3ReadOnlyAccess", "Action", &["s3:Get*", "s3:List*"]),
    (
        "AWSLambda_FullAccess",
        "Action",
        &["lambda:*", "logs:*", "iam:PassRole", "iam:ListRoles", "iam:GetRole"],
    ),
    (
        "service-role/AWSLambdaBasicExecutionRole",
        "Action",
        &["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
    ),
    ("CloudWatchLogsFullAccess", "Action", &["logs:*"]),
    (
        "CloudWatchLogsReadOnlyAccess",
        "Action",
        &["logs:Describe*", "logs:Get*", "logs:FilterLogEvents", "logs:List*", "logs:StartLiveTail"],
    ),
    ("IAMFullAccess", "Action", &["iam:*"]),
    ("PowerUserAccess", "NotAction", &["iam:*", "organizations:*", "account:*"]),
    (
        "ReadOnlyAccess",
        "Action",
        &[
            "iam:Generate*",
            "iam:Get*",
            "iam:List*",
            "iam:Simulate*",
            "lambda:Get*",
            "lambda:List*",
            "logs:Describe*",
            "logs:FilterLogEvents",
            "logs:Get*",
            "logs:List*",
            "logs:StartLiveTail",
            "s3:Get*",
            "s3:List*",
            "servicequotas:Get*",
            "servicequotas:List*",
        ],
    ),
];

/// In the order of their names.
pub(crate) fn policies() -> &'static [ManagedPolicy] {
    static ALL: LazyLock<Vec<ManagedPolicy>> = LazyLock::new(|| POLICIES.iter().map(policy).collect());
    &ALL
}

fn policy((name, element, actions): &(&str, &str, &[&str])) -> ManagedPolicy {
    let (path, name) =
        name.rsplit_once('/').map_or(("/".to_owned(), *name), |(path, name)| (format!("/{path}/"), name));
    let statement = serde_json::json!({ "Effect": "Allow", *element: actions, "Resource": "*" });
    let text = serde_json::json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
    let policy = Policy::parse(&text, DocumentKind::Identity, usize::MAX);
    let policy = policy.expect("invariant: our own policies are well-formed, see the test");
    let created_at = Timestamp::from_millis(0);
    let digits: String = name.bytes().map(|byte| char::from(b'A' + byte % 26)).take(17).collect();
    ManagedPolicy {
        account: AccountId::from_stored("aws"),
        path,
        name: name.to_owned(),
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
        for name in ["AdministratorAccess", "service-role/AWSLambdaBasicExecutionRole", "PowerUserAccess"] {
            let arn = format!("arn:aws:iam::aws:policy/{name}");
            assert!(all.iter().any(|policy| policy.arn() == arn), "{arn}");
        }
        let names = all.iter().map(|policy| policy.name.to_lowercase());
        assert!(names.is_sorted(), "lists go by name");
    }
}
