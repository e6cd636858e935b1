//! A router over a temporary directory, and signed requests to it.

use std::sync::Arc;

use axum::body::Body;
use hearth_api::AccountId;
use hearth_auth::sigv4::{Scope, SignedRequest, sign};
use hearth_auth::{Credential, Credentials};
use hearth_companions::ObjectStorage;
use hearth_store::Store;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

const HOST: &str = "127.0.0.1:9400";
pub(crate) const ACCOUNT: &str = "000000000000";

/// The neighbours with their storage at hand.
pub(crate) struct Neighbours {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) storage: ObjectStorage,
    pub(crate) store: Store,
    router: axum::Router,
}

/// An answer with its body read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Neighbours {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let account = AccountId::from_stored(ACCOUNT);
        let storage = ObjectStorage::open(directory.path(), "us-east-1", &account).unwrap();
        let store = Store::temporary().await.unwrap();
        let credential = Credential { secret: "secret".to_owned(), account: account.clone() };
        let credentials = Arc::new(Credentials::from_iter([("AKID".to_owned(), credential)]));
        let router = hearth_companions::router(&storage, store.clone(), credentials, "us-east-1", &account);
        Self { directory, storage, store, router }
    }

    /// Sends a request signed with the right secret; `target` is the path with its query.
    pub(crate) async fn call(
        &self,
        service: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.send(signed("secret", service, method, target, headers, body)).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Names of the files that are being written.
    pub(crate) fn temporary_files(&self) -> usize {
        std::fs::read_dir(self.directory.path().join(".temporary")).unwrap().count()
    }
}

pub(crate) fn signed(
    secret: &str,
    service: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Request<Body> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut all: Vec<(&str, &[u8])> = vec![("host", HOST.as_bytes())];
    all.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
    let scope = Scope { access_key: "AKID", secret, region: "us-east-1", service };
    let request = SignedRequest { method, path, query, headers: &all, body };
    let added = sign(&request, &scope, jiff::Timestamp::now());
    let mut builder = Request::builder().method(method).uri(target).header("host", HOST);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    for (name, value) in added {
        builder = builder.header(name, value);
    }
    builder.header("content-length", body.len()).body(Body::from(body.to_vec())).unwrap()
}
