//! StartLiveTail.

use hearth_records::Logs as _;
use std::time::Duration;

use axum::body::Body;
use hearth_api::{AccountId, Timestamp};
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::support::{ACCOUNT, Neighbours, signed};

const DEADLINE: Duration = Duration::from_secs(20);

/// The messages of an answer's body: kind of event and payload.
struct Events {
    body: Body,
    received: Vec<u8>,
}

impl Events {
    async fn start(neighbours: &Neighbours, request: Value) -> Self {
        let response = open(neighbours, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/vnd.amazon.eventstream");
        Self { body: response.into_body(), received: Vec::new() }
    }

    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some(prefix) = self.received.first_chunk::<4>() {
                let total = u32::from_be_bytes(*prefix) as usize;
                if self.received.len() >= total {
                    let message: Vec<u8> = self.received.drain(..total).collect();
                    let headers = u32::from_be_bytes(message[4..8].try_into().unwrap()) as usize;
                    let text = String::from_utf8_lossy(&message[12..12 + headers]).into_owned();
                    let kind = text.split(":event-type").nth(1).unwrap()[3..].split('\r').next().unwrap();
                    let kind = kind
                        .split(":content-type")
                        .next()
                        .unwrap()
                        .trim_end_matches(|c: char| !c.is_alphanumeric());
                    let payload = serde_json::from_slice(&message[12 + headers..total - 4]).unwrap();
                    return (kind.to_owned(), payload);
                }
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await.unwrap().unwrap().unwrap();
            self.received.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// Messages of events until there are so many.
    async fn messages(&mut self, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        while found.len() < count {
            let (kind, payload) = self.next().await;
            assert_eq!(kind, "sessionUpdate");
            assert_eq!(payload["sessionMetadata"]["sampled"], false);
            let results = payload["sessionResults"].as_array().unwrap();
            found.extend(results.iter().map(|result| result["message"].as_str().unwrap().to_owned()));
        }
        found
    }
}

async fn open(neighbours: &Neighbours, request: Value) -> http::Response<Body> {
    let headers = [("x-amz-target", "Logs_20140328.StartLiveTail")];
    neighbours.open(signed("secret", "logs", "POST", "/", &headers, request.to_string().as_bytes())).await
}

async fn write(neighbours: &Neighbours, group: &str, stream: &str, lines: &[&str]) {
    let lines: Vec<_> = lines.iter().map(|line| (Timestamp::now(), (*line).to_owned())).collect();
    neighbours.store.append_log(&AccountId::from_stored(ACCOUNT), group, stream, &lines).await.unwrap();
}

#[tokio::test]
async fn a_session_begins_with_what_was_asked_and_shows_only_what_is_new() {
    let neighbours = Neighbours::start().await;
    write(&neighbours, "g", "s", &["old"]).await;
    let arn = format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:g");
    let mut events = Events::start(&neighbours, json!({ "logGroupIdentifiers": [arn] })).await;
    assert_eq!(events.next().await, ("initial-response".to_owned(), json!({})));
    let (kind, start) = events.next().await;
    assert_eq!((kind.as_str(), &start["logGroupIdentifiers"]), ("sessionStart", &json!([arn])));
    write(&neighbours, "other", "s", &["of another group"]).await;
    write(&neighbours, "g", "s", &["one", "two"]).await;
    assert_eq!(events.messages(2).await, ["one", "two"]);
}

#[tokio::test]
async fn streams_and_patterns_choose() {
    let neighbours = Neighbours::start().await;
    write(&neighbours, "g", "app-1", &["old"]).await;
    let request = json!({
        "logGroupIdentifiers": ["g"], "logStreamNamePrefixes": ["app-"], "logEventFilterPattern": "ERROR",
    });
    let mut events = Events::start(&neighbours, request).await;
    events.next().await;
    events.next().await;
    write(&neighbours, "g", "build", &["ERROR elsewhere"]).await;
    write(&neighbours, "g", "app-1", &["fine", "ERROR here"]).await;
    assert_eq!(events.messages(1).await, ["ERROR here"]);
}

#[tokio::test]
async fn a_flood_is_sampled() {
    let neighbours = Neighbours::start().await;
    write(&neighbours, "g", "s", &["old"]).await;
    let mut events = Events::start(&neighbours, json!({ "logGroupIdentifiers": ["g"] })).await;
    events.next().await;
    events.next().await;
    write(&neighbours, "g", "s", &["x"; 501]).await;
    loop {
        let (_, update) = events.next().await;
        let shown = update["sessionResults"].as_array().unwrap().len();
        if shown > 0 {
            assert_eq!((shown, &update["sessionMetadata"]["sampled"]), (500, &json!(true)));
            break;
        }
    }
}

#[tokio::test]
async fn there_are_not_too_many_sessions_and_an_ended_one_makes_room() {
    let neighbours = Neighbours::start().await;
    write(&neighbours, "g", "s", &["old"]).await;
    let request = || json!({ "logGroupIdentifiers": ["g"] });
    let mut sessions = Vec::new();
    for _ in 0..15 {
        sessions.push(Events::start(&neighbours, request()).await);
    }
    let refused = open(&neighbours, request()).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("LimitExceededException"));
    // Another account has places of its own.
    let other = hearth_api::AccountId::from_stored(crate::support::OTHER_ACCOUNT);
    neighbours.store.append_log(&other, "g", "s", &[(Timestamp::now(), "old".to_owned())]).await.unwrap();
    let headers = [("x-amz-target", "Logs_20140328.StartLiveTail")];
    let body = request().to_string();
    let keys = crate::support::Keys::other_root();
    let theirs = keys.sign("logs", "POST", "/", &headers, body.as_bytes());
    assert_eq!(neighbours.open(theirs).await.status(), StatusCode::OK);
    sessions.pop();
    Events::start(&neighbours, request()).await;
}

/// The kind: rights that outlive their owner.
#[tokio::test]
async fn a_session_ends_with_the_user_that_opened_it() {
    let neighbours = Neighbours::start().await;
    write(&neighbours, "g", "s", &["old"]).await;
    let root = crate::support::Keys::root();
    let iam = async |action: &str, members: &[(&str, &str)]| {
        neighbours.query(&root, "iam", action, members).await.ok()
    };
    let ann = ("UserName", "ann");
    iam("CreateUser", &[ann]).await;
    let keys = iam("CreateAccessKey", &[ann]).await.keys();
    let policy = ("PolicyArn", "arn:aws:iam::aws:policy/CloudWatchLogsFullAccess");
    iam("AttachUserPolicy", &[ann, policy]).await;
    let headers = [("x-amz-target", "Logs_20140328.StartLiveTail")];
    let body = json!({ "logGroupIdentifiers": ["g"] }).to_string();
    let request = keys.sign("logs", "POST", "/", &headers, body.as_bytes());
    let body = neighbours.open(request).await.into_body();
    let mut events = Events { body, received: Vec::new() };
    events.next().await;
    events.next().await;
    iam("DetachUserPolicy", &[ann, policy]).await;
    write(&neighbours, "g", "s", &["not for ann"]).await;
    let rest = tokio::time::timeout(DEADLINE, events.body.collect()).await.unwrap().unwrap().to_bytes();
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("not authorized to perform: logs:StartLiveTail"), "{rest}");
    assert!(!rest.contains("not for ann"), "{rest}");
}
