//! Every request is logged once, with who asked for what, and what came of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use hearth_api::MicrovmState;
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::support::{ACCOUNT, Api, image_arn, signed};

/// The fields of an event by name.
type Line = BTreeMap<String, String>;

thread_local! {
    /// What the pipeline logs about requests on this thread, while somebody looks.
    static LINES: RefCell<Option<Vec<Line>>> = const { RefCell::new(None) };
}

/// Keeps what is logged. It is for all tests of this program: what one thread's subscriber wants
/// may be forgotten when another thread without one comes first to a line.
struct Lines;

struct Fields<'a>(&'a mut Line);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("hearth_service") {
            let mut line = Line::new();
            event.record(&mut Fields(&mut line));
            LINES.with_borrow_mut(|lines| lines.as_mut().map(|lines| lines.push(line)));
        }
    }
}

/// The lines since the last time.
fn logged() -> Vec<Line> {
    LINES.with_borrow_mut(|lines| lines.replace(Vec::new())).unwrap_or_default()
}

#[tokio::test]
async fn a_request_is_logged_once_with_what_came_of_it() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Lines)).unwrap();
    tracing::callsite::rebuild_interest_cache();
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let id = api.recorded_microvm(MicrovmState::Running).await;
    let root = format!("arn:aws:iam::{ACCOUNT}:root");
    let app = image_arn("app");
    let other_account = app.replace(ACCOUNT, "111122223333");
    let id = id.as_str();
    // What is asked, and the operation, principal, resource, decision and status of its line.
    let cases = [
        (
            "GET",
            format!("/2025-09-09/microvms/{id}"),
            Value::Null,
            ["GetMicrovm", &root, &app, "allowed", "200"],
        ),
        (
            "DELETE",
            format!("/2025-09-09/microvm-images/{other_account}"),
            Value::Null,
            ["DeleteMicrovmImage", &root, &other_account, "denied", "403"],
        ),
        ("POST", "/2025-09-09/microvms".to_owned(), json!({}), ["RunMicrovm", &root, "", "not asked", "400"]),
        ("GET", "/2025-09-09/nothing".to_owned(), Value::Null, ["unknown", "", "", "not asked", "404"]),
    ];
    logged();
    for (method, target, body, expected) in cases {
        api.call_at(method, &target, body).await;
        let logged = logged();
        let [line] = &logged[..] else { panic!("{method} {target}: {logged:?}") };
        let fields = ["operation", "principal", "resource", "decision", "status"].map(|name| &*line[name]);
        assert_eq!(fields, expected, "{method} {target}");
        assert!(line.contains_key("microseconds"));
    }
    api.send(signed("wrong", "lambda", "GET", "/2025-09-09/microvms", b"")).await;
    let logged = logged();
    let [line] = &logged[..] else { panic!("{logged:?}") };
    assert_eq!((&*line["operation"], &*line["principal"], &*line["status"]), ("ListMicrovms", "", "403"));
}
