//! CloudWatch Logs: what policies say of groups, their tags and those of a request, and how much a
//! request may ask.

use http::StatusCode;
use serde_json::{Value, json};

use crate::iam::Rights;
use crate::logs::logs;
use crate::support::{ACCOUNT, Reply};

/// What the user ann may do with CloudWatch Logs.
struct LogRights(Rights);

impl LogRights {
    async fn start() -> Self {
        Self(Rights::start().await)
    }

    async fn give(&self, actions: &[&str], resource: &str, condition: &Value) {
        let statement =
            json!({ "Effect": "Allow", "Action": actions, "Resource": resource, "Condition": condition });
        self.0.give(&statement.to_string()).await;
    }

    async fn send(&self, operation: &str, body: &str) -> Reply {
        let target = format!("Logs_20140328.{operation}");
        let headers = [("x-amz-target", target.as_str()), ("content-type", "application/x-amz-json-1.1")];
        self.0.iam.0.send(self.0.ann.sign("logs", "POST", "/", &headers, body.as_bytes())).await
    }

    /// `None` when it is done, else type and message.
    async fn ask(&self, operation: &str, body: &Value) -> Option<(String, String)> {
        let reply = self.send(operation, &body.to_string()).await;
        if reply.status == StatusCode::OK {
            return None;
        }
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        Some((text("__type"), text("message")))
    }

    async fn may(&self, operation: &str, body: &Value) {
        assert_eq!(self.ask(operation, body).await, None, "{operation} {body}");
    }

    async fn may_not(&self, operation: &str, body: &Value, action: &str) {
        let (kind, message) = self.ask(operation, body).await.unwrap();
        assert_eq!(kind, "AccessDeniedException", "{operation} {body}: {message}");
        assert!(message.contains(action), "{operation} {body}: {message}");
    }
}

fn arn(group: &str) -> String {
    format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{group}")
}

/// The kind: keys of the table of global condition keys are there in every service.
#[tokio::test]
async fn tags_of_a_group_and_of_a_request_are_condition_keys() {
    let rights = LogRights::start().await;
    let tagged = |group: &str, team: &str| json!({ "logGroupName": group, "tags": { "team": team } });
    let root = &rights.0.iam.0;
    assert_eq!(logs(root, "CreateLogGroup", tagged("theirs", "b")).await.0, StatusCode::OK);

    let of_team = json!({ "StringEquals": { "aws:RequestTag/team": "a" } });
    rights.give(&["logs:CreateLogGroup", "logs:TagResource"], "*", &of_team).await;
    rights.may("CreateLogGroup", &tagged("ours", "a")).await;
    rights.may_not("CreateLogGroup", &tagged("other", "b"), "logs:CreateLogGroup").await;
    for others in [json!({}), json!({ "tagKeys": ["team"], "resourceArn": arn("ours") })] {
        let mut untagged = json!({ "logGroupName": "other" });
        untagged.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
        rights.may_not("CreateLogGroup", &untagged, "logs:CreateLogGroup").await;
    }
    let tag = |group: &str, team: &str| json!({ "resourceArn": arn(group), "tags": { "team": team } });
    rights.may("TagResource", &tag("ours", "a")).await;
    rights.may_not("TagResource", &tag("ours", "b"), "logs:TagResource").await;

    // A right to make groups is none to tag them; the older action for it will do as well.
    rights.give(&["logs:CreateLogGroup"], "*", &json!({})).await;
    rights.may_not("CreateLogGroup", &tagged("new", "a"), "logs:TagResource").await;
    rights.may("CreateLogGroup", &json!({ "logGroupName": "untagged", "tags": {} })).await;
    rights.give(&["logs:CreateLogGroup", "logs:TagLogGroup"], "*", &json!({})).await;
    rights.may("CreateLogGroup", &tagged("new", "a")).await;

    let only = |key: &str| json!({ "ForAllValues:StringEquals": { "aws:TagKeys": [key] } });
    let untag = |keys: Value| json!({ "resourceArn": arn("ours"), "tagKeys": keys });
    rights.give(&["logs:UntagResource"], "*", &only("scratch")).await;
    rights.may("UntagResource", &untag(json!(["scratch"]))).await;
    rights.may_not("UntagResource", &untag(json!(["scratch", "team"])), "logs:UntagResource").await;
    let mut with_another_member = untag(json!(["team"]));
    with_another_member["tags"] = json!({ "scratch": "" });
    rights.may_not("UntagResource", &with_another_member, "logs:UntagResource").await;
    let many: Vec<String> = (0..51).map(|n| n.to_string()).collect();
    let (kind, _) = rights.ask("UntagResource", &untag(json!(many))).await.unwrap();
    assert_eq!(kind, "InvalidParameterException", "what is not asked about is not done");

    rights.give(&["logs:*"], "*", &json!({ "StringEquals": { "aws:ResourceTag/team": "a" } })).await;
    for (operation, action) in [
        ("CreateLogStream", "logs:CreateLogStream"),
        ("GetLogEvents", "logs:GetLogEvents"),
        ("DeleteLogGroup", "logs:DeleteLogGroup"),
    ] {
        let of = |group: &str| json!({ "logGroupName": group, "logStreamName": "s" });
        rights.may_not(operation, &of("theirs"), action).await;
        rights.may_not(operation, &of("untagged"), action).await;
        rights.may(operation, &of("ours")).await;
    }
}

/// The kind: what a request makes the server do is counted before it is done.
#[tokio::test]
async fn no_more_groups_are_asked_about_than_a_session_may_have() {
    let rights = LogRights::start().await;
    rights.give(&["logs:StartLiveTail"], &arn("ours-*"), &json!({})).await;
    let mut groups: Vec<String> = (0..10).map(|n| arn(&format!("ours-{n}"))).collect();
    groups.push(arn("theirs"));
    let (kind, message) =
        rights.ask("StartLiveTail", &json!({ "logGroupIdentifiers": groups })).await.unwrap();
    assert_eq!(kind, "InvalidParameterException", "the eleventh is not asked about: {message}");
    assert!(message.contains("length less than or equal to 10"), "{message}");
    groups.swap(9, 10);
    rights.may_not("StartLiveTail", &json!({ "logGroupIdentifiers": groups }), "theirs").await;
}

/// The kind: an answer, or what is read of a request, takes no more memory than the request.
#[tokio::test]
async fn values_are_counted_before_they_are_read_and_few_violations_are_told() {
    let rights = LogRights::start().await;
    rights.give(&["logs:*"], "*", &json!({})).await;
    let events = |count: usize| format!(r#"{{"logEvents":[{}{{}}]}}"#, "{},".repeat(count - 1));
    for (body, told) in [
        (events(60_000), "must not have more than 50000 values"),
        (events(10_000), "20 validation errors detected"),
        (format!(r#"{{"logGroupName":"{}"}}"#, " ".repeat(3000)), "Value at 'logGroupName'"),
    ] {
        let reply = rights.send("PutLogEvents", &body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        assert!(reply.text().contains(told), "{}", reply.text());
        assert!(reply.body.len() < 8 << 10, "{}", reply.text());
    }
}
