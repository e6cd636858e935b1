//! A registry that tells at once what its images are, and never sends anything of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The registry, on loopback.
pub(crate) struct SlowRegistry {
    pub(crate) address: SocketAddr,
    /// By repository, the connections on which a blob is waited for.
    waiting: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl SlowRegistry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let waiting = Arc::default();
        let registry = Self { address: listener.local_addr().unwrap(), waiting: Arc::clone(&waiting) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, waiting.clone()));
            }
        });
        registry
    }

    /// Connections on which a blob of `repository` is waited for.
    pub(crate) fn waiting(&self, repository: &str) -> usize {
        self.waiting.lock().unwrap().get(repository).copied().unwrap_or_default()
    }
}

async fn serve(mut stream: TcpStream, waiting: Arc<Mutex<BTreeMap<String, usize>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Who hangs up has asked for nothing.
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().strip_prefix("/v2/").unwrap();
    if let Some((repository, _)) = path.split_once("/manifests/") {
        let manifest = manifest(repository);
        let length = manifest.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{manifest}");
        stream.write_all(answer.as_bytes()).await.unwrap();
        return;
    }
    let repository = path.split_once("/blobs/").unwrap().0.to_owned();
    let change = |by: fn(usize) -> usize| {
        let mut waiting = waiting.lock().unwrap();
        let count = waiting.entry(repository.clone()).or_default();
        *count = by(*count);
    };
    change(|count| count + 1);
    // Until the client has gone; how does not matter.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    change(|count| count - 1);
}

/// Each repository's image is another one.
fn manifest(repository: &str) -> String {
    let descriptor = |kind: &str| {
        let digest = blake3::hash(format!("{kind} of {repository}").as_bytes()).to_hex();
        serde_json::json!({ "digest": format!("sha256:{digest}"), "size": 1000 })
    };
    let (config, layer) = (descriptor("configuration"), descriptor("layer"));
    serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [layer] }).to_string()
}
