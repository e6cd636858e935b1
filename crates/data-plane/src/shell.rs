//! Opens shells: a WebSocket to a pseudo-terminal in the app's container.
//! What is said on it: docs/shell.md, "The protocol".

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_api::MicrovmId;
use hearth_guest_protocol::client::{self, ClientError, Shell};
use hearth_guest_protocol::{ShellSpec, Terminal, chain};
use hearth_node::{Destination, Life, Node};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, sleep, timeout};

use crate::admit::Found;
use crate::app::has_ended;
use crate::call::Call;
use crate::client::Client;
use crate::reach::{PAUSE_MIN, WAIT_MAX};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::shell_session::{self, Dialect};
use crate::subprotocol::ForApp;
use crate::switch::{Switch, accept_of};

/// Arguments of a command together, in bytes.
const COMMAND_BYTES_MAX: usize = 32 << 10;

/// Longest time in which an agent may say that a shell runs. It takes a fraction of a
/// second, and is tried twice.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// What a client wants. Without a query it is what the service does; the parameters are Hearth's
/// own: `arg` (several: a program and its arguments), `terminal=none` (pipes), `frames=extended`
/// ([`Dialect::Extended`]).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    spec: ShellSpec,
    dialect: Dialect,
}

/// How a client wants its WebSocket to begin.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) switch: Switch,
    /// Whether the endpoint's own subprotocol is among those that are offered.
    pub(crate) is_marked: bool,
}

/// Answers a request that has shown a token for shells of a microVM.
///
/// Nothing but a WebSocket is served here. Plain HTTP finds nothing that answers, as
/// on the service.
pub(crate) async fn open<N: Node, T>(
    mut request: Request<T>,
    handshake: Handshake,
    Found { microvm, ingress, is_alive, running }: Found<N::Life>,
    (client, call): (&Arc<Client>, &Call),
    shared: &Shared<N>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let mut response = accept(&request, &handshake.switch).ok_or(Refusal::AppUnreachable)?;
    if !matches!(request.uri().path(), "/" | "/shell") {
        return Err(Refusal::AppUnreachable);
    }
    let wanted = Wanted::of(request.uri().query().unwrap_or_default())?;
    if !ingress.shell {
        return Err(Refusal::PortDenied);
    }
    if is_alive && running.is_none() {
        // It keeps its place while it waits.
        client.prove(&microvm, shared)?;
    }
    let running = reach(running, &microvm, call, shared).await?;
    client.count(&running, shared)?;
    client.prove(&microvm, shared)?;
    let (running, shell) = start_in_any_life(running, &microvm, &wanted.spec, call, shared).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    let (stop, call, client) = (shared.stop.clone(), call.clone(), Arc::clone(client));
    shared.stop.tasks.spawn(async move {
        let session = shell_session::serve(upgrade, shell, &running, wanted.dialect, &call);
        stop.now.run_until_cancelled(session).await;
        drop(client);
    });
    ForApp::complete(handshake.is_marked, response.headers_mut());
    Ok(response)
}

/// Starts a shell, again when the microVM was suspended meanwhile, and once more when its
/// agent has not answered.
async fn start_in_any_life<N: Node>(
    mut running: N::Life,
    microvm: &MicrovmId,
    spec: &ShellSpec,
    call: &Call,
    shared: &Shared<N>,
) -> Result<(N::Life, Shell<<N::Life as Life>::Stream>), Refusal> {
    let (began, mut tries_left) = (Instant::now(), 1);
    loop {
        let passing = running.enter();
        let started = match passing {
            Some(_) => start(running.clone(), spec).await,
            None => Err(Refusal::MicrovmUnreachable),
        };
        let is_of_next_life = passing.is_none() || has_ended(&running);
        let again = if is_of_next_life { began.elapsed() < WAIT_MAX } else { tries_left > 0 };
        if !again || !matches!(started, Err(Refusal::MicrovmUnreachable)) {
            return started;
        }
        tries_left -= i32::from(!is_of_next_life);
        sleep(PAUSE_MIN).await;
        let found = shared.node.endpoint(microvm).and_then(|endpoint| endpoint.running);
        running = reach(found, microvm, call, shared).await?;
    }
}

/// Waits for the microVM if it is not running.
async fn reach<N: Node>(
    running: Option<N::Life>,
    microvm: &MicrovmId,
    call: &Call,
    shared: &Shared<N>,
) -> Result<N::Life, Refusal> {
    match running {
        Some(running) => Ok(running),
        None => Ok(call.waking(shared.waiting.wait(microvm, &shared.stop)).await?.running),
    }
}

/// Starts a shell in a microVM.
async fn start<L: Life>(running: L, spec: &ShellSpec) -> Result<(L, Shell<L::Stream>), Refusal> {
    let opened = tokio::select! {
        biased;
        () = running.ended() => return Err(Refusal::MicrovmUnreachable),
        opened = timeout(START_TIMEOUT, open_shell(&running, spec)) => opened,
    };
    match opened.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
        Ok(shell) => Ok((running, shell)),
        Err(error) => {
            tracing::info!(microvm = %running.id(), error = %chain(&error), "a shell could not be started");
            Err(match error {
                ClientError::Agent(_) => Refusal::AppUnreachable,
                ClientError::Connection(_) => Refusal::MicrovmUnreachable,
            })
        }
    }
}

async fn open_shell<L: Life>(running: &L, spec: &ShellSpec) -> Result<Shell<L::Stream>, ClientError> {
    client::open_shell(running.connect(Destination::Agent).await?, spec).await
}

/// The answer to a WebSocket's opening handshake (RFC 6455, section 4.2.1; RFC 8441, section 5);
/// `None` when the request is none.
fn accept<B>(request: &Request<B>, switch: &Switch) -> Option<Response<Full<Bytes>>> {
    let mut response = Response::new(Full::default());
    if *switch == Switch::Http2WebSocket {
        return Some(response);
    }
    let is_handshake = request.method() == Method::GET
        && switch.is_websocket()
        && request.headers().get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = request.headers().get(SEC_WEBSOCKET_KEY).filter(|_| is_handshake)?;
    let accept = HeaderValue::try_from(accept_of(key.as_bytes())).ok()?;
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Some(response)
}

impl Wanted {
    fn of(query: &str) -> Result<Self, Refusal> {
        let mut wanted =
            Self { spec: ShellSpec { argv: Vec::new(), terminal: Terminal::Pty }, dialect: Dialect::Service };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                ("arg", argument) => wanted.spec.argv.push(argument.to_owned()),
                ("terminal", "none") => wanted.spec.terminal = Terminal::Pipes,
                ("frames", "extended") => wanted.dialect = Dialect::Extended,
                ("terminal" | "frames", _) => return Err(Refusal::BadRequest),
                // Whatever clients of the service may send.
                _ => {}
            }
        }
        let bytes: usize = wanted.spec.argv.iter().map(String::len).sum();
        if bytes > COMMAND_BYTES_MAX || wanted.spec.argv.iter().any(|argument| argument.contains('\0')) {
            return Err(Refusal::BadRequest);
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_opening_handshake_of_a_websocket_is_one() {
        let accepted = |change: &dyn Fn(&mut Request<()>)| {
            // The key and its answer are those of RFC 6455, section 1.3.
            let request = Request::get("/shell")
                .header("connection", "keep-alive, Upgrade")
                .header("upgrade", "WebSocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            let mut request = request.body(()).unwrap();
            change(&mut request);
            let response = accept(&request, &Switch::of(&request).unwrap())?;
            Some(response.headers()[SEC_WEBSOCKET_ACCEPT].clone())
        };
        assert_eq!(accepted(&|_| {}).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for field in ["connection", "upgrade", "sec-websocket-version", "sec-websocket-key"] {
            assert_eq!(accepted(&|request| drop(request.headers_mut().remove(field))), None, "{field}");
        }
        assert_eq!(accepted(&|request| *request.method_mut() = Method::POST), None);
    }

    #[test]
    fn the_query_says_what_to_start() {
        let plain = Wanted::of("").unwrap();
        assert_eq!(plain.spec, ShellSpec { argv: vec![], terminal: Terminal::Pty });
        assert_eq!(plain.dialect, Dialect::Service);
        assert_eq!(Wanted::of("something=else").unwrap(), plain);
        let wanted = Wanted::of("arg=ls&arg=-l&arg=a%20b&terminal=none&frames=extended").unwrap();
        assert_eq!(wanted.spec.argv, ["ls", "-l", "a b"]);
        assert_eq!((wanted.spec.terminal, wanted.dialect), (Terminal::Pipes, Dialect::Extended));
        for wrong in
            ["terminal=x", "frames=", "arg=a%00", &format!("arg={}", "x".repeat(COMMAND_BYTES_MAX + 1))]
        {
            assert_eq!(Wanted::of(wrong), Err(Refusal::BadRequest), "{wrong:.20}");
        }
    }
}
