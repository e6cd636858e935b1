//! A small internet on loopback: servers by name, and what has come to them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::address::Reach;
use crate::dial::Dial;
use crate::http::Http;
use crate::manifest::Digest;
use crate::messages::OperatorAddress;
use crate::origin::Origins;
use crate::registry::Repository;
use crate::spec::{Login, Proxy};

/// What a server answers.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    End,
    Endless,
    Drip(usize),
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), then: Then::End }
    }

    pub(super) fn ok(body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..Self::status(200) }
    }

    /// Goes on with the last byte until the client has enough.
    pub(super) fn endless(body: &[u8]) -> Self {
        Self { then: Then::Endless, ..Self::ok(body) }
    }

    /// Repeats the last byte so often, every 15 seconds.
    pub(super) fn dripping(body: &[u8], times: usize) -> Self {
        Self { then: Then::Drip(times), ..Self::ok(body) }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A request that has come.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) authorization: Option<String>,
}

/// A server; runs as long as the test.
#[derive(Debug, Clone)]
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn authorizations(&self) -> Vec<Option<String>> {
        self.seen().into_iter().map(|seen| seen.authorization).collect()
    }

    fn start(tls: Option<TlsAcceptor>, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let (seen, answer) = (server.seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, seen, answer) = (tls.clone(), seen.clone(), answer.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &seen, &*answer).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &seen, &*answer).await,
                            Err(error) => Err(error),
                        },
                    }
                });
            }
        });
        server
    }
}

/// One request to a connection. The client may go at any time, which ends it.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Vec<Seen>>,
    answer: &(dyn Fn(&Seen) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let request = Seen { path, authorization: header("authorization") };
    seen.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    let mut text = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    if reply.then == Then::End && !reply.headers.iter().any(|(name, _)| name == "Content-Length") {
        write!(text, "Content-Length: {}\r\n", reply.body.len()).unwrap();
    }
    for (name, value) in &reply.headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    stream.write_all(&reply.body).await?;
    let last = reply.body.last().copied().unwrap_or_default();
    match reply.then {
        Then::End => {}
        Then::Endless => loop {
            stream.write_all(&[last; 4096]).await?;
        },
        Then::Drip(times) => {
            for _ in 0..times {
                tokio::time::sleep(Duration::from_secs(15)).await;
                stream.write_all(&[last]).await?;
                stream.flush().await?;
            }
        }
    }
    stream.shutdown().await
}

/// The servers by name, and an authority that vouches for all of them.
pub(super) struct World {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    tls: Arc<rustls::ClientConfig>,
    names: BTreeMap<String, SocketAddr>,
    operator: Option<SocketAddr>,
    proxy: Option<(Proxy, SocketAddr)>,
}

impl World {
    pub(super) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = authority.self_signed(&key).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            issuer: rcgen::Issuer::new(authority, key),
            tls: Arc::new(config),
            names: BTreeMap::new(),
            operator: None,
            proxy: None,
        }
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A server on the internet, which speaks TLS.
    pub(super) fn public(
        &mut self,
        name: &str,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let server = Server::start(Some(self.acceptor(name)), answer);
        self.names.insert(name.to_owned(), server.address);
        server
    }

    /// A server that speaks plain HTTP.
    pub(super) fn plain(
        &mut self,
        name: &str,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let server = Server::start(None, answer);
        self.names.insert(name.to_owned(), server.address);
        server
    }

    /// The operator's mirror, which speaks plain HTTP.
    pub(super) fn operator(&mut self, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        let server = Server::start(None, answer);
        self.operator = Some(server.address);
        server
    }

    /// Makes everything go through a proxy; returns the requests for tunnels that come to it.
    pub(super) fn proxy(&mut self, proxy: Proxy) -> Arc<Mutex<Vec<String>>> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        self.proxy = Some((proxy, listener.local_addr().unwrap()));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, names) = (heads.clone(), self.names.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let name = head.split([' ', ':']).nth(1).unwrap();
                let mut target = TcpStream::connect(names[name]).await.unwrap();
                seen.lock().unwrap().push(head);
                stream.write_all(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n").await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut target).await });
            }
        });
        heads
    }

    /// A client for `team/app` in a registry; the operator's if there is one at that address.
    pub(super) fn repository(&self, registry: &str, login: Option<Login>) -> Repository<Names> {
        let url: Url = registry.parse().unwrap();
        let is_operators = self.operator.is_some_and(|address| registry == format!("http://{address}"));
        Repository {
            http: Http {
                dial: Names {
                    servers: self.names.clone(),
                    operator: self.operator,
                    proxy: self.proxy.as_ref().map(|(_, address)| *address),
                },
                tls: self.tls.clone(),
                origins: Origins::new(&url, is_operators).unwrap(),
                proxy: self.proxy.as_ref().map(|(proxy, _)| proxy.clone()),
                reach: Reach::default(),
                kept: None,
            },
            registry: url,
            name: "team/app".into(),
            login,
            authorization: None,
        }
    }
}

/// Connects to the servers by their names, whatever the port, and to addresses as
/// the real one does.
#[derive(Debug)]
pub(super) struct Names {
    servers: BTreeMap<String, SocketAddr>,
    operator: Option<SocketAddr>,
    proxy: Option<SocketAddr>,
}

impl Dial for Names {
    async fn inside(&mut self, host: &str, port: u16) -> Option<TcpStream> {
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            if !Reach::default().allows(address) {
                return None;
            }
            return TcpStream::connect((address, port)).await.ok();
        }
        TcpStream::connect(self.servers.get(host)?).await.ok()
    }

    async fn by_operator(&mut self, address: OperatorAddress) -> Option<TcpStream> {
        let address = match address {
            OperatorAddress::Registry => self.operator?,
            OperatorAddress::Proxy => self.proxy?,
        };
        TcpStream::connect(address).await.ok()
    }
}

/// A manifest with these blobs, the configuration first.
pub(super) fn image_manifest(blobs: &[&[u8]]) -> Vec<u8> {
    let descriptor = |bytes: &&[u8]| {
        serde_json::json!({
            "mediaType": "application/octet-stream",
            "digest": format!("sha256:{}", Digest::of(bytes).hex()),
            "size": bytes.len(),
        })
    };
    let layers: Vec<_> = blobs[1..].iter().map(descriptor).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": descriptor(&blobs[0]), "layers": layers,
    });
    serde_json::to_vec(&manifest).unwrap()
}
