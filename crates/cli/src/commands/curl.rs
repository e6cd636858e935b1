//! `hearth curl`.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;

use crate::client::Client;
use crate::endpoint::{self, AppRequest};
use crate::microvms;
use crate::render;

/// Names the reason in an answer that is the endpoint's and not the app's.
const PROXY_ERROR: &str = "x-aws-proxy-error";

/// Arguments of `hearth curl`; the options are those of curl.
#[derive(Debug, Args)]
pub struct CurlArgs {
    /// Id of a microVM, or the beginning of it
    id: String,
    /// Path and query
    #[arg(default_value = "/")]
    path: String,
    /// Port that the app listens on
    #[arg(short, long, default_value_t = 8080)]
    port: u16,
    /// Method; GET, or POST when there are data
    #[arg(short = 'X', long, value_name = "METHOD")]
    request: Option<Method>,
    /// Body; `@file` reads a file, `@-` standard input
    #[arg(short, long)]
    data: Option<String>,
    /// A header `Name: value`; may be given several times
    #[arg(short = 'H', long = "header", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Print status and headers too
    #[arg(short, long)]
    include: bool,
    /// Exit with 1 when the app's status is 400 or above; always so when the
    /// endpoint itself refuses
    #[arg(short, long)]
    fail: bool,
    /// Print status, headers and body as JSON
    #[arg(long, conflicts_with = "include")]
    json: bool,
}

/// Sends the request and prints the answer as it comes.
pub(crate) async fn run(client: &Client, args: CurlArgs) -> anyhow::Result<ExitCode> {
    let id = microvms::resolve_id(client, &args.id).await?;
    let body = args.data.as_deref().map(read_data).transpose()?;
    let method = args.request.unwrap_or(if body.is_some() { Method::POST } else { Method::GET });
    let target = if args.path.starts_with('/') { args.path } else { format!("/{}", args.path) };
    let request = AppRequest {
        method,
        target,
        port: args.port,
        headers: args.headers.into_iter().collect(),
        body: body.unwrap_or_default(),
    };
    let response = endpoint::send(client, &id, request).await?;
    let failed = response.status().is_client_error() || response.status().is_server_error();
    let refused = response.headers().get(PROXY_ERROR).cloned();
    if args.json {
        print_json(response).await?;
    } else {
        if args.include {
            print_head(&response)?;
        } else if let Some(code) = &refused {
            // The endpoint's own refusals may have an empty body.
            let code = String::from_utf8_lossy(code.as_bytes());
            let hint = hint(&code, args.port, &args.id);
            render::warn(&format!("the endpoint answered {} ({code}){hint}", response.status()));
        }
        print_body(response.into_body()).await?;
    }
    Ok(if refused.is_some() || (failed && args.fail) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What to do about a refusal.
fn hint(code: &str, port: u16, id: &str) -> String {
    match code {
        "APP_CONNECT_FAILED" => format!(": nothing listens on port {port}; -p names another"),
        "MICROVM_CONNECT_FAILED" => {
            format!(
                ": it does not run; `hearth resume {id}` wakes one that is suspended, `hearth ps -a` tells"
            )
        }
        _ => String::new(),
    }
}

fn print_head(response: &Response<Incoming>) -> anyhow::Result<()> {
    render::line(&format!("{:?} {}", response.version(), response.status()))?;
    for (name, value) in response.headers() {
        render::line(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))?;
    }
    render::line("")
}

async fn print_body(mut body: Incoming) -> anyhow::Result<()> {
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.context("the answer broke off")?.data_ref() {
            let mut output = io::stdout().lock();
            output.write_all(data)?;
            output.flush()?;
        }
    }
    Ok(())
}

async fn print_json(response: Response<Incoming>) -> anyhow::Result<()> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.context("the answer broke off")?.to_bytes();
    render::json(&json!({
        "status": parts.status.as_u16(),
        "headers": header_object(&parts.headers),
        "body": String::from_utf8_lossy(&body),
    }))
}

fn header_object(headers: &HeaderMap) -> serde_json::Map<String, serde_json::Value> {
    let text = |value: &HeaderValue| json!(String::from_utf8_lossy(value.as_bytes()));
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn read_data(data: &str) -> anyhow::Result<Bytes> {
    match data.strip_prefix('@') {
        None => Ok(Bytes::from(data.to_owned())),
        Some("-") => {
            let mut body = Vec::new();
            io::stdin().lock().read_to_end(&mut body).context("standard input cannot be read")?;
            Ok(body.into())
        }
        Some(file) => Ok(std::fs::read(file).with_context(|| format!("{file} cannot be read"))?.into()),
    }
}

fn parse_header(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').ok_or_else(|| anyhow!("a header has the form Name: value"))?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_data_are_read_as_curl_does() {
        let (name, value) = parse_header("X-Test:  a: b ").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-test", "a: b"));
        assert!(parse_header("nothing").is_err());
        assert_eq!(read_data("a=1").unwrap(), "a=1");
        let error = read_data("@/nonexistent").unwrap_err().to_string();
        assert_eq!(error, "/nonexistent cannot be read");
    }
}
