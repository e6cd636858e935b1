//! Shells over WebSockets, in front of an agent that the test plays.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{SinkExt as _, StreamExt as _};
use hearth_api::PortSpecification;
use hearth_auth::{Claims, TokenKind};
use hearth_data_plane::MicrovmLimits;
use hearth_guest_protocol::{FromShell, ShellSpec, Terminal, ToShell};
use hearth_node::Ingress;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::{connect, empty, get, request, soon, tls, tls_config, two_minutes_pass};
use crate::fake::{LABEL, World, host};

type Client = WebSocketStream<TlsStream<TcpStream>>;

fn shell_claims(world: &World) -> Claims {
    Claims { ports: vec![PortSpecification::Port(8022)], kind: TokenKind::Shell, ..world.claims() }
}

/// Opens a shell; the status and `x-aws-proxy-error` when it is refused.
async fn open(
    world: &World,
    target: &str,
    token: &str,
    port: Option<u16>,
) -> Result<Client, (StatusCode, String)> {
    soon(Box::pin(open_patiently(world, target, token, port))).await
}

/// The same without a limit of its own.
async fn open_patiently(
    world: &World,
    target: &str,
    token: &str,
    port: Option<u16>,
) -> Result<Client, (StatusCode, String)> {
    let mut request = format!("wss://{}{target}", host(LABEL)).into_client_request().unwrap();
    request.headers_mut().insert("x-aws-proxy-auth", token.parse().unwrap());
    if let Some(port) = port {
        request.headers_mut().insert("x-aws-proxy-port", port.into());
    }
    let stream = tls(world, Arc::new(tls_config(world)), LABEL).await;
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((client, _)) => Ok(client),
        Err(Error::Http(response)) => {
            let code = response.headers()["x-aws-proxy-error"].to_str().unwrap().to_owned();
            Err((response.status(), code))
        }
        Err(error) => panic!("{error}"),
    }
}

/// An open shell, past its greeting, and the agent's end of it.
async fn opened(world: &World, target: &str) -> (Client, ShellSpec, DuplexStream) {
    let token = world.issue(&shell_claims(world));
    let mut client = open(world, target, &token, Some(8022)).await.unwrap();
    let greeting: serde_json::Value =
        serde_json::from_str(next(&mut client).await.to_text().unwrap()).unwrap();
    assert_eq!(greeting["type"], "session_init");
    greeting["session_id"].as_str().unwrap().parse::<uuid::Uuid>().unwrap();
    assert_eq!(greeting.as_object().unwrap().len(), 2);
    let (spec, agent) = world.app.shells.lock().unwrap().pop().unwrap();
    (client, spec, agent)
}

async fn next(client: &mut Client) -> Message {
    soon(client.next()).await.unwrap().unwrap()
}

/// Code and reason of the close frame, which is next.
async fn closed(client: &mut Client) -> (u16, String) {
    match next(client).await {
        Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
        other => panic!("{other:?}"),
    }
}

async fn received(agent: &mut DuplexStream, frame: ToShell<'_>) {
    let expected = frame.encode();
    let mut bytes = vec![0; expected.len()];
    soon(agent.read_exact(&mut bytes)).await.unwrap();
    assert!(bytes == expected, "{bytes:.80?}");
}

#[tokio::test]
async fn bytes_pass_as_they_are_until_the_shell_ends() {
    let world = World::start().await;
    let (mut client, spec, mut agent) = opened(&world, "/shell").await;
    assert_eq!(spec, ShellSpec { argv: vec![], terminal: Terminal::Pty });
    let traffic = || world.app.traffic.load(Ordering::SeqCst);
    assert_eq!(traffic(), 0, "a greeting is no traffic");

    let printed = [0, 159, 146, 150, b'\r', 7];
    agent.write_all(&[&FromShell::output_header(6)[..], &printed].concat()).await.unwrap();
    assert_eq!(next(&mut client).await, Message::binary(printed.to_vec()));
    assert_eq!(traffic(), 6);

    client.send(Message::binary(vec![3, 255, b'\r'])).await.unwrap();
    received(&mut agent, ToShell::Input(&[3, 255, b'\r'])).await;
    client.send(Message::text(r#"{"type":"resize","cols":120,"rows":40}"#)).await.unwrap();
    received(&mut agent, ToShell::Resize { columns: 120, rows: 40 }).await;
    client.send(Message::text("λ")).await.unwrap();
    received(&mut agent, ToShell::Input("λ".as_bytes())).await;
    client.send(Message::Ping("x".into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Pong("x".into()));
    assert!(traffic() > 6 + 3 + 2, "{}", traffic());

    agent.write_all(&FromShell::exited_frame(3)).await.unwrap();
    assert_eq!(closed(&mut client).await, (1000, "shell exited".into()));
    assert_eq!(agent.read(&mut [0]).await.unwrap(), 0, "the connection to the guest is closed");
}

#[tokio::test]
async fn a_long_message_is_typed_in_pieces_and_a_longer_one_refused() {
    let world = World::start().await;
    let (mut client, _, mut agent) = opened(&world, "/").await;
    let typed: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    client.send(Message::binary(typed.clone())).await.unwrap();
    for piece in typed.chunks(65_535) {
        received(&mut agent, ToShell::Input(piece)).await;
    }
    client.send(Message::binary(vec![0; (1 << 20) + 1])).await.unwrap();
    assert_eq!(closed(&mut client).await.0, 1009);
}

#[tokio::test]
async fn the_exit_status_and_the_end_of_input_are_extensions() {
    let world = World::start().await;
    let target = "/shell?frames=extended&terminal=none&arg=sh&arg=-c&arg=exit";
    let (mut client, spec, mut agent) = opened(&world, target).await;
    let argv = ["sh", "-c", "exit"].map(str::to_owned).to_vec();
    assert_eq!(spec, ShellSpec { argv, terminal: Terminal::Pipes });
    client.send(Message::text(r#"{"type":"eof"}"#)).await.unwrap();
    received(&mut agent, ToShell::EndOfInput).await;
    agent.write_all(&FromShell::exited_frame(42)).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text(r#"{"status":42,"type":"exit"}"#));
    assert_eq!(closed(&mut client).await, (1000, "shell exited".into()));
}

#[tokio::test]
async fn a_shell_ends_with_its_client() {
    let world = World::start().await;
    let (client, _, mut agent) = opened(&world, "/shell").await;
    drop(client);
    assert_eq!(soon(agent.read(&mut [0])).await.unwrap(), 0);
    let (mut client, _, mut agent) = opened(&world, "/shell").await;
    client.close(None).await.unwrap();
    assert_eq!(soon(agent.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_shell_ends_with_the_life_of_its_microvm_or_its_agent() {
    let world = World::start().await;
    let cut = (1001, "the MicroVM was suspended or has ended".to_owned());
    let (mut client, _, agent) = opened(&world, "/shell").await;
    drop(agent);
    assert_eq!(closed(&mut client).await, cut);
    let (mut client, _, mut agent) = opened(&world, "/shell").await;
    world.app.ended.cancel();
    assert_eq!(closed(&mut client).await, cut);
    assert_eq!(soon(agent.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_shell_that_does_not_start_is_tried_once_more() {
    let world = World::on_this_thread().await;
    let hanging = |count| world.app.hanging_shells.store(count, Ordering::SeqCst);
    let left = || world.app.hanging_shells.load(Ordering::SeqCst);
    hanging(1);
    let token = world.issue(&shell_claims(&world));
    let opening = open_patiently(&world, "/shell", &token, Some(8022));
    let passing = async {
        soon(async {
            while left() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        two_minutes_pass().await;
    };
    let (opened, ()) = tokio::join!(opening, passing);
    opened.unwrap();
    hanging(2);
    let opening = open_patiently(&world, "/shell", &token, Some(8022));
    let passing = async {
        for remaining in [1, 0] {
            soon(async {
                while left() > remaining {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            two_minutes_pass().await;
        }
    };
    let (refused, ()) = tokio::join!(opening, passing);
    assert_eq!(refused.unwrap_err(), (StatusCode::BAD_GATEWAY, "MICROVM_CONNECT_FAILED".to_owned()));
}

#[tokio::test]
async fn tokens_open_what_they_are_for() {
    let world = World::start().await;
    let (shell, app) = (world.issue(&shell_claims(&world)), world.token());
    let expired = world.issue(&Claims { expires_at_seconds: 0, ..shell_claims(&world) });
    assert!(open(&world, "/shell", &shell, None).await.is_ok(), "the port need not be named");
    let denied = Err((StatusCode::FORBIDDEN, "UNAUTHORIZED".to_owned()));
    let no_answer = Err((StatusCode::BAD_GATEWAY, "APP_CONNECT_FAILED".to_owned()));
    let refused = async |target, token, port| open(&world, target, token, port).await.map(drop);
    assert_eq!(refused("/shell", &shell, Some(8080)).await, denied);
    assert_eq!(refused("/else", &shell, None).await, no_answer);
    let bad = Err((StatusCode::BAD_REQUEST, "BAD_REQUEST".to_owned()));
    assert_eq!(refused("/shell?terminal=x", &shell, None).await, bad);
    // An app's own port, on which nobody listens.
    assert_eq!(refused("/shell", &app, Some(8022)).await, no_answer);
    assert_eq!(refused("/shell", &expired, None).await, denied);

    let shells = world.app.shells.lock().unwrap().len();
    let plain = request(&world, "/shell").body(empty()).unwrap();
    let (mut head, body) = plain.into_parts();
    head.headers.insert("x-aws-proxy-auth", shell.parse().unwrap());
    let mut sender = connect(&world, LABEL).await;
    let answer = soon(sender.send_request(http::Request::from_parts(head, body))).await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["x-aws-proxy-error"]),
        (StatusCode::BAD_GATEWAY, &"APP_CONNECT_FAILED".parse().unwrap())
    );
    assert_eq!(world.app.shells.lock().unwrap().len(), shells, "no shell was started");
}

#[tokio::test]
async fn connectors_let_in_what_they_are_for() {
    let world = World::start().await;
    let shell = world.issue(&shell_claims(&world));
    *world.node.ingress.lock().unwrap() = Ingress { http: true, shell: false };
    let asked = || world.node.asked.load(Ordering::SeqCst);
    let refused = open(&world, "/shell", &shell, None).await.map(drop);
    assert_eq!(refused, Err((StatusCode::FORBIDDEN, "UNAUTHORIZED".to_owned())));
    *world.node.ingress.lock().unwrap() = Ingress { http: false, shell: true };
    let mut sender = connect(&world, LABEL).await;
    let answer = soon(sender.send_request(request(&world, "/").body(empty()).unwrap())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(asked(), 0, "nothing is woken");
    assert!(open(&world, "/shell", &shell, None).await.is_ok());
}

#[tokio::test]
async fn a_shell_counts_as_a_connection_until_it_is_closed() {
    let world = World::limited(MicrovmLimits { connections: Some(1), ..MicrovmLimits::NONE }).await;
    let (first, ..) = opened(&world, "/shell").await;
    let _second = opened(&world, "/shell").await;
    let token = world.issue(&shell_claims(&world));
    let third = open(&world, "/shell", &token, None).await;
    assert_eq!(third.unwrap_err(), (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS".to_owned()));
    assert_eq!(get(&world, "/").await.status(), 429, "shells and requests count together");
    drop(first);
    soon(async { while open(&world, "/shell", &token, None).await.is_err() {} }).await;
}
