//! One client connection: TLS, then HTTP/1.1.

use std::convert::Infallible;
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

use crate::admit::{Admitted, admit};
use crate::app::AppConnection;
use crate::backend::Backend;
use crate::refusal::Refusal;
use crate::route::DEFAULT_PORT;
use crate::serve::Shared;
use crate::{forward, route, shell};

/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time until the next request's head is complete, waiting for the request included.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// Header with the request's id, on the way in and out.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Serves a connection until either side ends it.
pub(crate) async fn serve<B: Backend>(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared<B>>) {
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
            async move { Ok::<_, Infallible>(answer(request, server_name.as_deref(), &shared).await) }
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

type Answer = Response<Either<Full<Bytes>, Incoming>>;

async fn answer<B: Backend>(
    request: Request<Incoming>,
    server_name: Option<&str>,
    shared: &Shared<B>,
) -> Answer {
    let request_id =
        HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("invariant: a UUID is visible ASCII");
    let mut response = match pass(request, server_name, &request_id, shared).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!(?refusal, ?request_id, "endpoint request refused");
            refusal.response().map(Either::Left)
        }
    };
    response.headers_mut().insert(REQUEST_ID, request_id);
    response
}

async fn pass<B: Backend>(
    mut request: Request<Incoming>,
    server_name: Option<&str>,
    request_id: &HeaderValue,
    shared: &Shared<B>,
) -> Result<Answer, Refusal> {
    let authority = route::authority(&request)?;
    let port = route::port(request.headers())?;
    let label = shared.hosts.agreed_label(server_name, &authority);
    let microvm = match label {
        Some(label) => shared.backend.by_endpoint(&label).await,
        None => None,
    };
    let microvm = match admit(&shared.keys, request.headers(), microvm, port, Timestamp::now().as_second())? {
        Admitted::ToApp(microvm) if shared.backend.ingress(&microvm).http => microvm,
        Admitted::ToApp(_) => return Err(Refusal::PortDenied),
        Admitted::ToShell(microvm) => {
            return shell::open(request, &microvm, None, shared)
                .await
                .map(|response| response.map(Either::Left));
        }
    };
    let port = port.unwrap_or(DEFAULT_PORT);
    let (running, connection) = match reach(&microvm, port, shared).await {
        // It may have been suspended between being found running and being connected to.
        Err(Refusal::MicrovmUnreachable) => reach(&microvm, port, shared).await?,
        other => other?,
    };
    request.headers_mut().insert(REQUEST_ID, request_id.clone());
    let response = forward::forward(request, &authority, &running, connection, shared).await?;
    Ok(response.map(Either::Right))
}

/// Waits for the microVM and connects to its app.
async fn reach<B: Backend>(
    microvm: &MicrovmId,
    port: u16,
    shared: &Shared<B>,
) -> Result<(B::App, AppConnection), Refusal> {
    let running = shared.backend.ensure_running(microvm).await.map_err(|reason| {
        tracing::debug!(%microvm, ?reason, "the microVM takes no request");
        Refusal::MicrovmUnreachable
    })?;
    let connection = shared.apps.connect(&running, port, &shared.stop).await?;
    Ok((running, connection))
}
