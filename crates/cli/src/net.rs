//! HTTP/1.1 over TCP or TLS: one connection per request.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A byte stream to a server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to `host`. Names under `localhost` are this machine by definition (RFC 6761, section
/// 6.3), whatever the resolver knows about them.
pub(crate) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = if host == "localhost" || host.ends_with(".localhost") {
        match TcpStream::connect((IpAddr::from(Ipv4Addr::LOCALHOST), port)).await {
            Ok(stream) => stream,
            Err(error) => {
                TcpStream::connect((IpAddr::from(Ipv6Addr::LOCALHOST), port)).await.map_err(|_| error)?
            }
        }
    } else {
        TcpStream::connect((host, port)).await?
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Puts TLS on `stream`, trusting only the certificates in the PEM file.
pub(crate) async fn start_tls(
    stream: TcpStream,
    host: &str,
    ca_bundle: &Path,
) -> anyhow::Result<Box<dyn Stream>> {
    let unreadable = || format!("the CA bundle {} is not readable", ca_bundle.display());
    let mut roots = rustls::RootCertStore::empty();
    let file = File::open(ca_bundle).with_context(unreadable)?;
    for certificate in CertificateDer::pem_reader_iter(file) {
        roots.add(certificate.with_context(unreadable)?).with_context(unreadable)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is not a host name"))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .with_context(|| format!("no TLS connection to {host}"))?;
    Ok(Box::new(stream))
}

/// Sends one request and returns the answer's head with its body still to be read.
pub(crate) async fn send(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| anyhow!(error).context("no HTTP connection"))?;
    // The task ends with the connection; a failure of it surfaces in the request or in its body.
    tokio::spawn(connection);
    sender.send_request(request).await.context("the connection broke before an answer came")
}
