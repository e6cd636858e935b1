//! One shell: WebSocket frames on one side, a terminal on the other.

use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use hearth_guest_protocol::client::{Shell, ShellReader, ShellWriter};
use hearth_guest_protocol::{FromShell, SHELL_PAYLOAD_BYTES, ToShell};
use hearth_node::Life;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};
use uuid::Uuid;

use crate::call::{Call, Metered};

/// Longest message of a client, in bytes; a longer one ends the session with close code 1009.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Between two pings, which tell whether the client is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a client may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Which frames there are beside those of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// None.
    Service,
    /// Text `{"type":"exit","status":N}` before the close frame; text `{"type":"eof"}` from the
    /// client ends the input of a shell without terminal.
    Extended,
}

/// Text of a client that is not typed in.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Control {
    Resize { cols: u16, rows: u16 },
    Eof,
}

type Client = WebSocketStream<Metered<TokioIo<Upgraded>>>;

/// Why a session is over.
#[derive(Debug)]
enum End {
    /// The shell ended.
    Exited { code: i32 },
    /// The client closed or lost the connection.
    ClientGone,
    /// The client sent what it may not.
    Refused(CloseCode),
    /// The microVM was suspended or ended, or the connection to it broke.
    Cut,
}

/// Carries a shell's bytes until it ends, the client goes or the microVM's life ends. What was
/// started in the shell ends with it.
pub(crate) async fn serve<L: Life>(
    upgrade: OnUpgrade,
    (mut writer, mut reader): Shell<L::Stream>,
    running: &L,
    dialect: Dialect,
    call: &Call,
) {
    let Ok(upgraded) = upgrade.await else { return };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let client = call.tunnel(TokioIo::new(upgraded));
    let client = WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
    let (mut to_client, mut from_client) = client.split();
    let end = tokio::select! {
        biased;
        () = running.ended() => End::Cut,
        end = print(&mut reader, &mut to_client, running) => end,
        end = type_in(&mut from_client, &mut writer, running, dialect) => end,
    };
    tracing::debug!(microvm = %running.id(), ?end, "a shell ended");
    // The guest learns of it at once, and not only when the client has answered.
    drop((reader, writer));
    let close = async {
        if let (End::Exited { code }, Dialect::Extended) = (&end, dialect) {
            let status = serde_json::json!({ "type": "exit", "status": code });
            to_client.send(Message::text(status.to_string())).await?;
        }
        if let Some(frame) = end.close_frame() {
            to_client.send(Message::Close(Some(frame))).await?;
        }
        // Until the client has closed too. What it still sends is not looked at, but has to be
        // taken: a connection that is closed with bytes unread is reset, and the client might
        // not see why it ended.
        if let Ok(socket) = to_client.reunite(from_client) {
            let mut connection = socket.into_inner();
            connection.shutdown().await?;
            tokio::io::copy(&mut connection, &mut tokio::io::sink()).await?;
        }
        Ok::<_, WebSocketError>(())
    };
    // A client that does not answer is left alone.
    let _ = timeout(CLOSE_TIMEOUT, close).await;
}

impl End {
    fn close_frame(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Exited { .. } => (CloseCode::Normal, "shell exited"),
            Self::Cut => (CloseCode::Away, "the MicroVM was suspended or has ended"),
            Self::Refused(code) => (*code, "the message is too long or malformed"),
            Self::ClientGone => return None,
        };
        Some(CloseFrame { code, reason: reason.into() })
    }
}

/// From the shell to the client, which slows the shell down if it does not keep up.
async fn print<L: Life>(
    reader: &mut ShellReader<L::Stream>,
    to_client: &mut SplitSink<Client, Message>,
    running: &L,
) -> End {
    let greeting = serde_json::json!({ "type": "session_init", "session_id": Uuid::new_v4() });
    if to_client.send(Message::text(greeting.to_string())).await.is_err() {
        return End::ClientGone;
    }
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    loop {
        let message = tokio::select! {
            frame = reader.next() => match frame {
                Ok(Some(FromShell::Output(bytes))) => {
                    running.traffic(bytes.len() as u64);
                    Message::Binary(bytes.into())
                }
                Ok(Some(FromShell::Exited { code })) => return End::Exited { code },
                Ok(None) | Err(_) => return End::Cut,
            },
            // Its answer counts as no traffic: an idle shell does not keep a microVM awake.
            _ = pings.tick() => Message::Ping(tokio_tungstenite::tungstenite::Bytes::new()),
        };
        if to_client.send(message).await.is_err() {
            return End::ClientGone;
        }
    }
}

/// From the client to the shell. While the shell takes no more, nothing is read.
async fn type_in<L: Life>(
    from_client: &mut SplitStream<Client>,
    writer: &mut ShellWriter<L::Stream>,
    running: &L,
    dialect: Dialect,
) -> End {
    loop {
        let typed = match from_client.next().await {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Text(text))) => match control(&text, dialect) {
                Some(control) => {
                    running.traffic(text.len() as u64);
                    let frame = match control {
                        Control::Resize { cols, rows } => ToShell::Resize { columns: cols, rows },
                        Control::Eof => ToShell::EndOfInput,
                    };
                    if writer.send(frame).await.is_err() {
                        return End::Cut;
                    }
                    continue;
                }
                None => text.into(),
            },
            Some(Ok(Message::Ping(_))) => {
                running.traffic(1);
                continue;
            }
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => continue,
            Some(Err(WebSocketError::Capacity(_))) => return End::Refused(CloseCode::Size),
            Some(Err(WebSocketError::Utf8(_))) => return End::Refused(CloseCode::Invalid),
            Some(Err(WebSocketError::Protocol(_))) => return End::Refused(CloseCode::Protocol),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return End::ClientGone,
        };
        running.traffic(typed.len() as u64);
        if type_all(writer, &typed).await.is_err() {
            return End::Cut;
        }
    }
}

async fn type_all<S: AsyncRead + AsyncWrite + Unpin>(
    writer: &mut ShellWriter<S>,
    typed: &[u8],
) -> std::io::Result<()> {
    for piece in typed.chunks(SHELL_PAYLOAD_BYTES) {
        writer.send(ToShell::Input(piece)).await?;
    }
    Ok(())
}

/// What a text means; `None` is text to be typed.
fn control(text: &str, dialect: Dialect) -> Option<Control> {
    // Most text is typed by people.
    let control = text.starts_with('{').then(|| serde_json::from_str(text).ok())??;
    (control != Control::Eof || dialect == Dialect::Extended).then_some(control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_typed_unless_it_is_a_resize() {
        let resize = r#"{"type":"resize","cols":120,"rows":40}"#;
        for dialect in [Dialect::Service, Dialect::Extended] {
            assert_eq!(control(resize, dialect), Some(Control::Resize { cols: 120, rows: 40 }));
            let typed =
                ["ls\r", "{", "{}", r#"{"type":"resize","cols":-1,"rows":40}"#, r#"{"type":"resize"}"#];
            for text in typed {
                assert_eq!(control(text, dialect), None, "{text}");
            }
        }
        let eof = r#"{"type":"eof"}"#;
        assert_eq!(control(eof, Dialect::Service), None);
        assert_eq!(control(eof, Dialect::Extended), Some(Control::Eof));
    }
}
