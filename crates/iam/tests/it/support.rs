//! A few principals, and short ways to write policies.

use hearth_api::AccountId;
use hearth_iam::{Document, DocumentKind, Principal, Request};
use serde_json::{Value, json};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const OTHER_ACCOUNT: &str = "444455556666";
pub(crate) const IMAGE: &str = "arn:aws:lambda:us-east-1:111122223333:microvm-image:app";
pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/service/deployer";
pub(crate) const RUN: &str = "lambda:RunMicrovm";

pub(crate) fn root_of(account: &str) -> Principal {
    Principal::Root { account: AccountId::from_stored(account) }
}

pub(crate) fn user_of(account: &str, name: &str) -> Principal {
    Principal::User {
        account: AccountId::from_stored(account),
        path: "/".to_owned(),
        name: name.to_owned(),
        id: format!("AIDA{name}"),
    }
}

pub(crate) fn user() -> Principal {
    user_of(ACCOUNT, "ann")
}

/// A session of [`ROLE`].
pub(crate) fn session() -> Principal {
    Principal::AssumedRole {
        account: AccountId::from_stored(ACCOUNT),
        path: "/service/".to_owned(),
        role: "deployer".to_owned(),
        id: "AROADEPLOYER".to_owned(),
        session: "ci".to_owned(),
    }
}

pub(crate) fn service(name: &str) -> Principal {
    Principal::Service { name: name.to_owned() }
}

/// Ann wants to run the image.
pub(crate) fn run() -> Request {
    Request::new(user(), RUN, IMAGE)
}

/// `principal` wants to become [`ROLE`].
pub(crate) fn assume(principal: Principal) -> Request {
    Request::new(principal, "sts:AssumeRole", ROLE)
}

pub(crate) fn policy(statements: &Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

pub(crate) fn parse(kind: DocumentKind, statements: &Value) -> Document {
    let text = policy(statements).to_string();
    Document::parse(&text, kind, 6_144).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub(crate) fn identity(statements: &Value) -> Document {
    parse(DocumentKind::Identity, statements)
}

pub(crate) fn trust(statements: &Value) -> Document {
    parse(DocumentKind::Trust, statements)
}

pub(crate) fn allow(action: &str, resource: &str) -> Value {
    json!({"Effect": "Allow", "Action": action, "Resource": resource})
}

pub(crate) fn deny(action: &str, resource: &str) -> Value {
    json!({"Effect": "Deny", "Action": action, "Resource": resource})
}
