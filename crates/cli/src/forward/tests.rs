//! A forwarder between a client and an endpoint that refuses.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Mutex as StdMutex;

use http_body_util::BodyExt as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::client::Client;
use crate::connection::Connection;

/// When a request came to the endpoint, its method, its token and its body.
type Seen = Arc<StdMutex<Vec<(Instant, String, String, Bytes)>>>;
/// Status, headers and body of an answer.
type Answer = (u16, &'static [(&'static str, &'static str)], &'static str);

const TOO_MANY: Answer = (429, &[("x-aws-proxy-error", "TOO_MANY_REQUESTS"), ("retry-after", "1")], "");

/// An endpoint on loopback that gives these answers, one after the other; its certificate is left
/// in `ca`.
async fn endpoint(ca: &Path, answers: &[Answer]) -> (SocketAddr, Seen) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(ca, certificate.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, answers) = (Seen::default(), Arc::new(StdMutex::new(VecDeque::from(answers.to_vec()))));
    let shown = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            let (seen, answers) = (seen.clone(), answers.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (seen, answers) = (seen.clone(), answers.clone());
                async move { Ok::<_, Infallible>(answer(request, &seen, &answers).await) }
            });
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(served);
        }
    });
    (address, shown)
}

async fn answer(
    request: Request<Incoming>,
    seen: &Seen,
    answers: &StdMutex<VecDeque<Answer>>,
) -> Response<Full<Bytes>> {
    let token = request.headers()["x-aws-proxy-auth"].to_str().unwrap().to_owned();
    let method = request.method().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    seen.lock().unwrap().push((Instant::now(), method, token, body));
    let (status, headers, body) = answers.lock().unwrap().pop_front().unwrap();
    let builder = headers
        .iter()
        .fold(Response::builder().status(status), |builder, (name, value)| builder.header(*name, *value));
    builder.body(Full::from(body)).unwrap()
}

/// A local port that stands for the endpoint.
async fn forwarder(endpoint: SocketAddr, ca: &Path) -> SocketAddr {
    let client = Client::new(Connection {
        api: "http://127.0.0.1:1".parse().unwrap(),
        region: String::new(),
        access_key: String::new(),
        secret: String::new(),
        session_token: None,
        ca_bundle: None,
    });
    let header = ("x-aws-proxy-auth".parse().unwrap(), HeaderValue::from_static("the token"));
    let tokens = Arc::new(Tokens::given(client, header));
    let endpoint = Endpoint::at(format!("localhost:{}", endpoint.port()), ca.to_owned());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let local = listener.local_addr().unwrap();
    let forwarder = Forwarder::new(endpoint, tokens, 8080, IpAddr::from(Ipv4Addr::LOCALHOST));
    tokio::spawn(Arc::new(forwarder).serve(listener));
    local
}

/// Sends a request; all of the answer.
async fn ask(local: SocketAddr, body: &str) -> String {
    let mut stream = TcpStream::connect(local).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST /x HTTP/1.1\r\nHost: localhost:{}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}",
        local.port()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn what_the_endpoint_refuses_for_its_number_is_sent_again_whole_when_it_may_be() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    let (endpoint, seen) = endpoint(&ca, &[TOO_MANY, TOO_MANY, (200, &[], "served")]).await;
    let answer = ask(forwarder(endpoint, &ca).await, "the body").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nserved"), "{answer}");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    for (_, method, token, body) in seen.iter() {
        assert_eq!((method.as_str(), token.as_str(), &body[..]), ("POST", "the token", &b"the body"[..]));
    }
    for pair in seen.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= Duration::from_secs(1), "not before the endpoint's Retry-After");
    }
}

#[tokio::test]
async fn what_the_app_refuses_and_what_cannot_be_repeated_is_passed_on() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    let own: Answer = (429, &[("retry-after", "1")], "the app's own");
    let (endpoint, seen) = endpoint(&ca, &[own, TOO_MANY]).await;
    let local = forwarder(endpoint, &ca).await;
    let answer = ask(local, "").await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.ends_with("the app's own"), "{answer}");
    // Of a body of this length no copy is kept.
    let answer = ask(local, &"x".repeat((1 << 20) + 1)).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert_eq!(seen.lock().unwrap().len(), 2);
}
