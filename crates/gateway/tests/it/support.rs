//! A router over a temporary directory, and signed requests to it.

use std::sync::Arc;

use axum::body::Body;
use hearth_api::AccountId;
use hearth_gateway::WholeApi;
use hearth_identity::{Identities, RootKey};
use hearth_quotas_api::QuotaValues;
use hearth_s3_api::{ObjectStorage, StorageLimits};
use hearth_service::pages::PageKey;
use hearth_store_sqlite::Store;
pub(crate) use hearth_testkit::requests::{ACCOUNT, Keys, OTHER_ACCOUNT};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

/// The neighbours with their storage at hand.
pub(crate) struct Neighbours {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) storage: ObjectStorage,
    pub(crate) store: Store,
    pub(crate) identities: Arc<Identities>,
    api: WholeApi,
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

    /// Text of the first XML element of this name; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> String {
        self.fields(name).into_iter().next().unwrap_or_default()
    }

    /// Texts of all XML elements of this name.
    pub(crate) fn fields(&self, name: &str) -> Vec<String> {
        let (text, tag) = (self.text(), format!("<{name}>"));
        let inner = text.split(&tag).skip(1).map(|rest| rest.split("</").next().unwrap());
        let unescaped = |text: &str| {
            let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
            named.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
        };
        inner.map(unescaped).collect()
    }

    /// Status and code of a refusal by IAM or STS, and its message.
    pub(crate) fn refusal(&self) -> (u16, String, String) {
        (self.status.as_u16(), self.field("Code"), self.field("Message"))
    }

    /// The answer itself, which must be none of refusal.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self
    }

    /// Credentials in an answer of CreateAccessKey, AssumeRole or GetSessionToken.
    pub(crate) fn keys(&self) -> Keys {
        let token = self.field("SessionToken");
        let token = (!token.is_empty()).then_some(token);
        Keys { id: self.field("AccessKeyId"), secret: self.field("SecretAccessKey"), token }
    }
}

impl Neighbours {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// As another server would find the directory.
    pub(crate) async fn restart(self) -> Self {
        Self::start_in(self.directory).await
    }

    async fn start_in(directory: tempfile::TempDir) -> Self {
        let account = AccountId::from_stored(ACCOUNT);
        let limits = StorageLimits { free_bytes: 0, ..StorageLimits::default() };
        let storage = ObjectStorage::open(directory.path(), "us-east-1", &account, limits).unwrap();
        let store = Store::temporary().await.unwrap();
        let root =
            RootKey { account: account.clone(), access_key: "AKID".to_owned(), secret: "secret".to_owned() };
        let other = AccountId::from_stored(OTHER_ACCOUNT);
        let other =
            RootKey { account: other, access_key: "AKIDOTHER".to_owned(), secret: "other".to_owned() };
        let identities =
            Arc::new(Identities::open(Arc::new(store.clone()), vec![root, other]).await.unwrap());
        let quotas = QuotaValues {
            maximum_duration_seconds: 28_800,
            memory_mib: 2048,
            images: 3,
            versions_per_image: 50,
            images_gib: 256,
            concurrent_builds: 10,
            running_builds: 1,
            concurrent_pulls: 2,
            base_images_mib: 1024,
            network_connectors: 100,
            versions_per_network_connector: 50,
            run_microvm: 7,
            suspend_microvm: 0,
            resume_microvm: 5,
            terminate_microvm: 10,
            create_microvm_auth_token: 50,
            log_groups: 10_000,
            log_streams: 100_000,
            log_mib: 10_240,
            live_tail_sessions: 15,
            s3_buckets: 1000,
            s3_gib: 7,
        };
        let defaults = QuotaValues { memory_mib: 1 << 20, images: 100, run_microvm: 5, ..quotas };
        let quotas = (quotas, defaults);
        let neighbours = hearth_gateway::Neighbours::new(
            &storage,
            Arc::new(store.clone()),
            &identities,
            "us-east-1",
            PageKey([7; 32]),
            quotas,
            &[],
        );
        // What stands for the control plane.
        let control_plane = axum::Router::new()
            .route("/2025-09-09/{*rest}", axum::routing::any(|| async { StatusCode::IM_A_TEAPOT }));
        let api = WholeApi::new(control_plane, neighbours.router(), &[]);
        Self { directory, storage, store, identities, api }
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

    /// Calls an action of IAM or STS.
    pub(crate) async fn query(
        &self,
        keys: &Keys,
        service: &str,
        action: &str,
        members: &[(&str, &str)],
    ) -> Reply {
        let version = if service == "iam" { "2010-05-08" } else { "2011-06-15" };
        let body: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", version)
            .extend_pairs(members)
            .finish();
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        self.send(keys.sign(service, "POST", "/", &headers, body.as_bytes())).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.open(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Sends a request whose answer is read as it comes.
    pub(crate) async fn open(&self, request: Request<Body>) -> Response<Body> {
        self.api.clone().oneshot(request).await.unwrap()
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
    Keys::new("AKID", secret).sign(service, method, target, headers, body)
}
