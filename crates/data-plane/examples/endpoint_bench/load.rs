//! Clients for what h2load does not measure. Each prints one line of JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{SinkExt as _, StreamExt as _};
use http::header::HOST;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::Error;

/// Bytes of a WebSocket message.
const MESSAGE_BYTES: usize = 64;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Host {
    host: String,
    token: String,
}

#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) proxy: SocketAddr,
    pub(crate) hosts: Vec<Host>,
    pub(crate) connections: usize,
    pub(crate) time: Duration,
}

impl Load {
    pub(crate) async fn run(self, kind: &str) -> Result<(), Error> {
        let tls = connector();
        if kind == "idle" {
            return self.idle(&tls).await;
        }
        let began = Instant::now();
        let until = began + self.time;
        let clients = (0..self.connections).map(|number| {
            let host = self.hosts[number % self.hosts.len()].clone();
            let (kind, tls, proxy) = (kind.to_owned(), tls.clone(), self.proxy);
            let client = async move {
                match &*kind {
                    "websocket" => websocket(proxy, &tls, &host, until).await,
                    "handshakes" => handshakes(proxy, &tls, &host, until).await,
                    "hosts" => requests(proxy, &tls, &host, until).await,
                    other => Err(format!("unknown load {other}").into()),
                }
            };
            async { tokio::spawn(client).await? }
        });
        let mut times: Vec<u64> = try_join_all(clients).await?.into_iter().flatten().collect();
        let seconds = began.elapsed().as_secs_f64();
        times.sort_unstable();
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied();
        let result = json!({ "count": times.len(), "seconds": seconds, "per_second": times.len() as f64 / seconds,
            "median_us": at(0.5), "p99_us": at(0.99) });
        println!("{result}");
        Ok(())
    }

    /// Opens connections that do nothing after one request, says so, and keeps them
    /// for the time given.
    async fn idle(self, tls: &TlsConnector) -> Result<(), Error> {
        let mut open = Vec::new();
        for number in 0..self.connections {
            let host = &self.hosts[number % self.hosts.len()];
            let mut sender = connect(self.proxy, tls, host).await?;
            get(&mut sender, host).await?;
            open.push(sender);
        }
        println!("{}", json!({ "open": open.len() }));
        tokio::time::sleep(self.time).await;
        Ok(())
    }
}

/// The time of each message and its echo, in microseconds.
async fn websocket(
    proxy: SocketAddr,
    tls: &TlsConnector,
    host: &Host,
    until: Instant,
) -> Result<Vec<u64>, Error> {
    let mut request = format!("wss://{}/echo", host.host).into_client_request()?;
    request.headers_mut().insert("x-aws-proxy-auth", HeaderValue::from_str(&host.token)?);
    let (mut socket, _) = tokio_tungstenite::client_async(request, secured(proxy, tls, host).await?).await?;
    let message = Message::binary(vec![7; MESSAGE_BYTES]);
    let mut times = Vec::new();
    while Instant::now() < until {
        let sent = Instant::now();
        socket.send(message.clone()).await?;
        let echo = socket.next().await.ok_or("the echo ended")??;
        if echo.len() != MESSAGE_BYTES {
            return Err("this is no echo".into());
        }
        times.push(sent.elapsed().as_micros() as u64);
    }
    Ok(times)
}

/// Each on a connection of its own, without resumption: TCP, TLS, one request.
async fn handshakes(
    proxy: SocketAddr,
    tls: &TlsConnector,
    host: &Host,
    until: Instant,
) -> Result<Vec<u64>, Error> {
    let mut times = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let mut sender = connect(proxy, tls, host).await?;
        get(&mut sender, host).await?;
        times.push(began.elapsed().as_micros() as u64);
    }
    Ok(times)
}

/// One after the other on one connection.
async fn requests(
    proxy: SocketAddr,
    tls: &TlsConnector,
    host: &Host,
    until: Instant,
) -> Result<Vec<u64>, Error> {
    let mut sender = connect(proxy, tls, host).await?;
    let mut times = Vec::new();
    while Instant::now() < until {
        let sent = Instant::now();
        get(&mut sender, host).await?;
        times.push(sent.elapsed().as_micros() as u64);
    }
    Ok(times)
}

async fn get(sender: &mut SendRequest<Empty<Bytes>>, host: &Host) -> Result<(), Error> {
    let request = Request::get("/")
        .header(HOST, &host.host)
        .header("x-aws-proxy-auth", &host.token)
        .body(Empty::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != 200 {
        return Err(format!("status {}", response.status()).into());
    }
    response.into_body().collect().await?;
    sender.ready().await?;
    Ok(())
}

async fn connect(
    proxy: SocketAddr,
    tls: &TlsConnector,
    host: &Host,
) -> Result<SendRequest<Empty<Bytes>>, Error> {
    let (sender, connection) = http1::handshake(TokioIo::new(secured(proxy, tls, host).await?)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn secured(proxy: SocketAddr, tls: &TlsConnector, host: &Host) -> Result<TlsStream<TcpStream>, Error> {
    let stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    Ok(tls.connect(ServerName::try_from(host.host.clone())?, stream).await?)
}

fn connector() -> TlsConnector {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("invariant: the provider speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// Whose certificate it is does not matter to a bench; the signature is checked, as it costs time.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
