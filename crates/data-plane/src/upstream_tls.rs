//! TLS to apps that speak nothing else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::layer::{AppProtocol, Layer};

/// Longest time for a handshake with an app. A guest that has just been resumed may take seconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Makes connections with TLS; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamTls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
}

impl UpstreamTls {
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let any_app = Arc::new(AnyApp(provider.signature_verification_algorithms));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(any_app)
            .with_no_client_auth();
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Self { http1: offering(&[HTTP1]), http2: offering(&[H2]), either: offering(&[H2, HTTP1]) })
    }

    /// TLS on a fresh connection, for one protocol.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
        protocol: AppProtocol,
    ) -> io::Result<AppTls<S>> {
        let config = match protocol {
            AppProtocol::Http1 => &self.http1,
            AppProtocol::Http2 => &self.http2,
        };
        handshake(config, stream, host).await.map(AppTls)
    }

    /// Whether TLS is spoken on the other side of a fresh connection. None if nobody listens there.
    pub(crate) async fn probe<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
    ) -> Option<Layer> {
        let mut stream = match handshake(&self.either, stream, host).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return None,
            Err(error) => {
                tracing::debug!(%error, "the app does not speak TLS");
                return Some(Layer::Plain);
            }
        };
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
        // An app that serves one connection at a time shall be free for the next one; that it
        // closes this one too is not waited for.
        if let Ok(Err(error)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.shutdown()).await {
            tracing::debug!(%error, "the app did not wait for the end of TLS");
        }
        Some(Layer::Tls(if is_h2 { AppProtocol::Http2 } else { AppProtocol::Http1 }))
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    config: &Arc<ClientConfig>,
    stream: S,
    host: &str,
) -> io::Result<TlsStream<S>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error: InvalidDnsNameError| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await?
}

/// Takes every certificate, also one that nobody could verify.
///
/// Not less safe than plain HTTP, which all other apps are spoken to in: the connection goes from
/// this host into the microVM's own network, where only the microVM itself is. Apps have
/// certificates that they made themselves, for names of their own; whose they are says nothing
/// about who answers here. So it does not matter either whether a signature is good.
#[derive(Debug)]
struct AnyApp(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyApp {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A connection to an app with TLS.
///
/// Apps that end an answer by closing the connection often do so without a word of TLS, as Python's
/// `http.server` does. As nobody can have cut it on the way, that is an end like that of plain TCP.
#[derive(Debug)]
pub(crate) struct AppTls<S>(TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for AppTls<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(context, buffer)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for AppTls<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
