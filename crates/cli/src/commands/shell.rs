//! `hearth shell`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

use crate::client::{Client, encode};
use crate::endpoint::{Endpoint, auth_headers};
use crate::microvms;
use crate::net::Stream;
use crate::terminal::{self, RawMode};

/// Lifetime of the token, which is looked at when the shell opens only.
const TOKEN_MINUTES: u32 = 5;
/// Port that stands for the shell.
const SHELL_PORT: u16 = 8022;

/// Arguments of `hearth shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// Id of a microVM, or the beginning of it
    id: String,
    /// Run this instead of a shell, without a terminal unless there is one
    #[arg(last = true)]
    command: Vec<String>,
}

type WebSocket = WebSocketStream<Box<dyn Stream>>;

/// What the shell is connected to on this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A terminal, in raw mode.
    Terminal,
    /// Pipes or files.
    Pipes,
}

/// Opens a shell, and exits as it does.
pub(crate) async fn run(client: &Client, args: ShellArgs) -> anyhow::Result<ExitCode> {
    let id = microvms::resolve_id(client, &args.id).await?;
    let endpoint = Endpoint::of(client, &id).await?;
    let token = microvms::create_shell_auth_token(client, &id, TOKEN_MINUTES).await?;
    let mode = if terminal::is_interactive() { Mode::Terminal } else { Mode::Pipes };
    let program = args.command.first().map(String::as_str);
    let socket = open(&endpoint, &token, &target(mode, &args.command), program).await?;
    let raw = match mode {
        Mode::Terminal => Some(RawMode::enter().context("the terminal cannot be set to raw mode")?),
        Mode::Pipes => None,
    };
    let ended = converse(socket, mode).await;
    drop(raw);
    ended
}

/// Path and query of the shell's address.
fn target(mode: Mode, command: &[String]) -> String {
    let mut target = "/shell?frames=extended".to_owned();
    if mode == Mode::Pipes {
        target.push_str("&terminal=none");
    }
    for argument in command {
        target.push_str("&arg=");
        target.push_str(&encode(argument));
    }
    target
}

/// Opens the WebSocket; `program` is what was asked for instead of a shell.
async fn open(
    endpoint: &Endpoint,
    token: &Value,
    target: &str,
    program: Option<&str>,
) -> anyhow::Result<WebSocket> {
    let mut request = format!("wss://{}{target}", endpoint.authority())
        .into_client_request()
        .context("the address of the shell cannot be written as HTTP")?;
    request.headers_mut().extend(auth_headers(token)?);
    request.headers_mut().insert("x-aws-proxy-port", SHELL_PORT.into());
    let stream = endpoint.connect().await?;
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(WebSocketError::Http(response)) => {
            let code = response.headers().get("x-aws-proxy-error");
            let code = code.and_then(|code| code.to_str().ok()).unwrap_or_default();
            Err(refusal(response.status(), code, program))
        }
        Err(error) => Err(anyhow!(error).context("the shell could not be opened")),
    }
}

fn refusal(status: http::StatusCode, code: &str, program: Option<&str>) -> anyhow::Error {
    match (code, program) {
        ("MICROVM_CONNECT_FAILED", _) => anyhow!("the microVM does not run, or could not be resumed"),
        ("APP_CONNECT_FAILED", Some(program)) => anyhow!(
            "the microVM could not start {program:?}: its image has no such program, or it cannot be executed; the server's log says which"
        ),
        ("APP_CONNECT_FAILED", None) => anyhow!(
            "the microVM could not start a shell: its image may have none, or was built before there were shells"
        ),
        (code, _) => anyhow!("the endpoint refused the shell: {status} {code}"),
    }
}

/// Carries bytes both ways until the shell ends.
async fn converse(socket: WebSocket, mode: Mode) -> anyhow::Result<ExitCode> {
    let (to_shell, from_shell) = socket.split();
    tokio::select! {
        ended = print(from_shell) => ended,
        failed = type_in(to_shell, mode) => Err(failed),
        number = signalled() => Ok(ExitCode::from(128_u8.saturating_add(number))),
    }
}

/// Writes what the shell prints; its exit status.
async fn print(mut from_shell: SplitStream<WebSocket>) -> anyhow::Result<ExitCode> {
    let mut status = None;
    loop {
        match from_shell.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                let mut output = io::stdout().lock();
                output.write_all(&bytes)?;
                output.flush()?;
            }
            Some(Ok(Message::Text(text))) => status = exit_status(&text).or(status),
            Some(Ok(Message::Close(Some(CloseFrame { code: CloseCode::Normal, .. })))) => {
                return Ok(ExitCode::from(status.unwrap_or_default()));
            }
            Some(Ok(Message::Close(Some(frame)))) => bail!("the shell was cut off: {}", frame.reason),
            Some(Ok(Message::Close(None)) | Err(_)) | None => bail!("the connection to the shell broke"),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
        }
    }
}

/// The status in Hearth's own frame `{"type":"exit","status":N}`.
fn exit_status(text: &str) -> Option<u8> {
    let frame: Value = serde_json::from_str(text).ok()?;
    if frame["type"] == "exit" { frame["status"].as_i64().map(|status| status as u8) } else { None }
}

/// Sends what is typed, and the size of the window; returns only when it cannot.
async fn type_in(mut to_shell: SplitSink<WebSocket, Message>, mode: Mode) -> anyhow::Error {
    let mut typed = terminal::typed();
    let Ok(mut resized) = signal(SignalKind::window_change()) else {
        return anyhow!("changes of the window's size cannot be noticed");
    };
    let mut message = size_message(mode);
    let mut reading = true;
    loop {
        if let Some(message) = message
            && to_shell.send(message).await.is_err()
        {
            // Why is what the other direction says.
            return std::future::pending().await;
        }
        message = tokio::select! {
            bytes = typed.recv(), if reading => {
                reading = bytes.is_some();
                match bytes {
                    Some(bytes) => Some(Message::binary(bytes)),
                    None if mode == Mode::Pipes => Some(Message::text(json!({ "type": "eof" }).to_string())),
                    None => None,
                }
            }
            _ = resized.recv() => size_message(mode),
        };
    }
}

fn size_message(mode: Mode) -> Option<Message> {
    let (columns, rows) = terminal::size().filter(|_| mode == Mode::Terminal)?;
    Some(Message::text(json!({ "type": "resize", "cols": columns, "rows": rows }).to_string()))
}

/// Number of the first signal that asks this process to end, so that the terminal is
/// restored before it does.
async fn signalled() -> u8 {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up), Ok(mut quit)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
        signal(SignalKind::quit()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
        _ = hang_up.recv() => 1,
        _ = quit.recv() => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_says_what_to_run_and_on_what() {
        assert_eq!(target(Mode::Terminal, &[]), "/shell?frames=extended");
        let command = ["sh".to_owned(), "-c".to_owned(), "echo a&b".to_owned()];
        assert_eq!(
            target(Mode::Pipes, &command),
            "/shell?frames=extended&terminal=none&arg=sh&arg=-c&arg=echo%20a%26b"
        );
    }

    #[test]
    fn only_the_frame_of_the_exit_has_a_status() {
        assert_eq!(exit_status(r#"{"type":"exit","status":7}"#), Some(7));
        assert_eq!(exit_status(r#"{"type":"session_init","session_id":"x"}"#), None);
        assert_eq!(exit_status("text"), None);
    }

    #[test]
    fn refusals_are_sentences() {
        let say = |status, code| {
            refusal(http::StatusCode::from_u16(status).unwrap(), code, Some("nosuch")).to_string()
        };
        assert_eq!(say(502, "MICROVM_CONNECT_FAILED"), "the microVM does not run, or could not be resumed");
        assert!(say(502, "APP_CONNECT_FAILED").starts_with("the microVM could not start \"nosuch\": "));
        assert_eq!(say(403, "UNAUTHORIZED"), "the endpoint refused the shell: 403 Forbidden UNAUTHORIZED");
    }
}
