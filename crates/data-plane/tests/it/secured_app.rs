//! An app that wants TLS.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hearth_certificates::{CertificateAuthority, OwnCertificate};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client::TestBody;

/// What a port with TLS does with a request in plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToPlain {
    /// As rustls and Java.
    Alert,
    /// As Node, HAProxy and OpenSSL.
    Close,
    /// As Python, which has not read the request.
    Reset,
    /// As Go.
    BadRequest10,
    /// As nginx.
    BadRequest11,
}

pub(crate) const EVERY_WAY: [ToPlain; 5] =
    [ToPlain::Alert, ToPlain::Close, ToPlain::Reset, ToPlain::BadRequest10, ToPlain::BadRequest11];

/// How often an app with TLS was spoken to.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    plain: AtomicUsize,
    /// Connections with TLS, those included that only probed.
    secured: AtomicUsize,
    pub(crate) names: Mutex<Vec<Option<String>>>,
}

impl Seen {
    pub(crate) fn plain_and_secured(&self) -> (usize, usize) {
        (self.plain.load(Ordering::SeqCst), self.secured.load(Ordering::SeqCst))
    }
}

pub(crate) fn server_config(protocols: &[&[u8]]) -> Arc<ServerConfig> {
    let data = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::open(data.path()).unwrap();
    let certificate = OwnCertificate::issue(authority, "app.of.somebody").unwrap().served();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// What comes with TLS on a connection; what does not is answered as `to_plain` says.
pub(crate) async fn accept(
    mut stream: TcpStream,
    tls: &TlsAcceptor,
    to_plain: ToPlain,
    seen: &Seen,
) -> Option<TlsStream<TcpStream>> {
    let mut first = [0];
    if stream.peek(&mut first).await.ok()? == 1 && first[0] != 0x16 {
        seen.plain.fetch_add(1, Ordering::SeqCst);
        let mut request = vec![0; 65536];
        match to_plain {
            // Below.
            ToPlain::Alert => {}
            ToPlain::Reset => return None,
            ToPlain::Close | ToPlain::BadRequest10 | ToPlain::BadRequest11 => {
                let _ = stream.read(&mut request).await;
                let answer: &[u8] = match to_plain {
                    ToPlain::BadRequest10 => b"HTTP/1.0 400 Bad Request\r\n\r\nno HTTPS\n",
                    ToPlain::BadRequest11 => {
                        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\nConnection: close\r\n\r\nno HTTPS\n"
                    }
                    _ => b"",
                };
                stream.write_all(answer).await.unwrap();
                return None;
            }
        }
    }
    let stream = tls.accept(stream).await.ok()?;
    seen.secured.fetch_add(1, Ordering::SeqCst);
    seen.names.lock().unwrap().push(stream.get_ref().1.server_name().map(Into::into));
    Some(stream)
}

/// Serves an app that wants TLS on `listener`, over HTTP/2 if that is agreed on.
pub(crate) fn serve_tls_app<F>(
    listener: TcpListener,
    protocols: &[&[u8]],
    to_plain: ToPlain,
    app: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> Arc<Seen>
where
    F: Future<Output = Response<TestBody>> + Send + 'static,
{
    let (seen, tls) = (Arc::new(Seen::default()), TlsAcceptor::from(server_config(protocols)));
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (app, tls, seen) = (app.clone(), tls.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                let Some(stream) = accept(stream, &tls, to_plain, &seen).await else { return };
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(move |request| {
                    let answer = app(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let stream = TokioIo::new(stream);
                // How the connection ends is the client's business.
                if is_http2 {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(stream, service).await;
                } else {
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(stream, service).with_upgrades().await;
                }
            });
        }
    });
    seen
}
