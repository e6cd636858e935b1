//! Calls what standard input says with the AWS SDKs for Rust; `tests/e2e/drivers.py` has the form
//! of the lines. Where the server is and the keys are in the environment.

mod core;
mod microvms;
mod value;

use std::io::BufRead;

use aws_credential_types::Credentials;
use serde_json::{Value, json};

/// An error of the service: `type`, `code`, `status` and `message`.
pub(crate) struct Refused(Value);

impl Refused {
    /// `error` is an SDK's enum of all its exceptions, whose variants have the exceptions' names.
    pub(crate) fn new<E: std::fmt::Debug>(
        error: &E,
        code: Option<&str>,
        status: Option<u16>,
        message: Option<&str>,
    ) -> Self {
        let debug = format!("{error:?}");
        let variant = debug.split(['(', ' ']).next();
        Self(json!({"type": variant, "code": code, "status": status, "message": message.unwrap_or_default()}))
    }
}

/// What a client answers, as JSON.
pub(crate) type Answer = Result<Value, Refused>;

/// Makes the configuration of a client; both SDKs have a type of their own for it.
macro_rules! configuration {
    ($sdk:ident) => {
        $sdk::Config::builder()
            .behavior_version_latest()
            .endpoint_url(crate::setting("AWS_ENDPOINT_URL"))
            .region($sdk::config::Region::new(crate::setting("AWS_REGION")))
            .credentials_provider(crate::credentials())
            .retry_config($sdk::config::retry::RetryConfig::disabled())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build()
    };
}

/// Sends a request and makes its error one of ours.
macro_rules! send {
    ($sdk:ident, $request:expr) => {
        $request.map_err(|error| {
            let status = error.raw_response().map(|raw| raw.status().as_u16());
            let error = $sdk::Error::from(error);
            let meta = $sdk::error::ProvideErrorMetadata::meta(&error);
            crate::Refused::new(&error, meta.code(), status, meta.message())
        })
    };
}

/// All pages of a paginator, with one member of each item.
macro_rules! pages {
    ($sdk:ident, $request:expr, $size:expr, $items:ident, $name:literal, $member:ident) => {{
        let mut stream = $request.into_paginator().page_size($size).send();
        let mut pages = Vec::new();
        while let Some(page) = stream.next().await {
            let page = crate::send!($sdk, page)?;
            pages.push(page.$items().iter().map(|item| json!({$name: item.$member()})).collect::<Value>());
        }
        pages.into_iter().collect::<Value>()
    }};
}

pub(crate) use {configuration, pages, send};

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn credentials() -> Credentials {
    Credentials::new(
        setting("AWS_ACCESS_KEY_ID"),
        setting("AWS_SECRET_ACCESS_KEY"),
        None,
        None,
        "environment",
    )
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let microvms = microvms::client();
    let core = core::client();
    for line in std::io::stdin().lock().lines() {
        let call: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let (operation, input) = (call["operation"].as_str().expect("an operation"), &call["input"]);
        let page_size = call["page_size"].as_i64().map(|size| size as i32);
        let answer = match (call["service"].as_str(), page_size) {
            (Some("lambda-microvms"), None) => microvms::call(&microvms, operation, input).await,
            (Some("lambda-microvms"), Some(size)) => microvms::pages(&microvms, operation, input, size).await,
            (_, None) => core::call(&core, operation, input).await,
            (_, Some(size)) => core::pages(&core, operation, input, size).await,
        };
        let key = if page_size.is_some() { "pages" } else { "output" };
        println!(
            "{}",
            answer.map_or_else(|Refused(error)| json!({"error": error}), |value| json!({key: value}))
        );
    }
}
