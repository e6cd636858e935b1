//! One client connection: TLS, then HTTP/1.1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_api::MicrovmId;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use crate::admit::admit;
use crate::app::AppConnection;
use crate::backend::Backend;
use crate::call::{Call, Observed};
use crate::refusal::Refusal;
use crate::serve::Shared;
use crate::{forward, route};

/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time until the next request's head is complete, waiting for the request included.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// Header with the request's id, on the way in and out.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Serves a connection until either side ends it.
pub(crate) async fn serve<B: Backend>(
    stream: TcpStream,
    client: SocketAddr,
    tls: TlsAcceptor,
    shared: Arc<Shared<B>>,
) {
    let stop = shared.stop.clone();
    let served = async {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let stream = match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        };
        let server_name: Option<Arc<str>> = stream.get_ref().1.server_name().map(Into::into);
        let service = service_fn(|request| {
            let (shared, server_name) = (Arc::clone(&shared), server_name.clone());
            async move { Ok::<_, Infallible>(answer(request, client, server_name.as_deref(), &shared).await) }
        });
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
        );
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = stop.soon.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "an endpoint connection broke");
        }
    };
    stop.now.run_until_cancelled(served).await;
}

type Answer = Response<Observed<Either<Full<Bytes>, Incoming>>>;

async fn answer<B: Backend>(
    request: Request<Incoming>,
    client: SocketAddr,
    server_name: Option<&str>,
    shared: &Shared<B>,
) -> Answer {
    let request_id =
        HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("invariant: a UUID is visible ASCII");
    let call = shared.observation.begin(&request, &request_id, client);
    let mut response = match pass(request, server_name, &request_id, &call, shared).await {
        Ok(response) => {
            call.answered(response.status());
            response.map(Either::Right)
        }
        Err(refusal) => {
            call.refused(refusal);
            tracing::debug!(?refusal, ?request_id, "endpoint request refused");
            refusal.response().map(Either::Left)
        }
    };
    response.headers_mut().insert(REQUEST_ID, request_id);
    response.map(|body| call.response_body(body))
}

async fn pass<B: Backend>(
    mut request: Request<Incoming>,
    server_name: Option<&str>,
    request_id: &HeaderValue,
    call: &Call,
    shared: &Shared<B>,
) -> Result<Response<Incoming>, Refusal> {
    let authority = route::authority(&request)?;
    let port = route::port(request.headers())?;
    let label = shared.hosts.agreed_label(server_name, &authority);
    let microvm = match label {
        Some(label) => shared.backend.by_endpoint(&label).await,
        None => None,
    };
    let microvm = admit(&shared.keys, request.headers(), microvm, port, Timestamp::now().as_second())?;
    call.admitted(&microvm, port);
    let (running, connection) = match reach(&microvm, port, call, shared).await {
        // It may have been suspended between being found running and being connected to.
        Err(Refusal::MicrovmUnreachable) => reach(&microvm, port, call, shared).await?,
        other => other?,
    };
    request.headers_mut().insert(REQUEST_ID, request_id.clone());
    let request = request.map(|body| call.request_body(body));
    forward::forward(request, &authority, &running, connection, call, shared).await
}

/// Waits for the microVM and connects to its app.
async fn reach<B: Backend>(
    microvm: &MicrovmId,
    port: u16,
    call: &Call,
    shared: &Shared<B>,
) -> Result<(B::App, AppConnection), Refusal> {
    let running = call.waking(shared.backend.ensure_running(microvm)).await.map_err(|reason| {
        tracing::debug!(%microvm, ?reason, "the microVM takes no request");
        Refusal::MicrovmUnreachable
    })?;
    let connection = shared.apps.connect(&running, port, &shared.stop).await?;
    Ok((running, connection))
}
