//! All that answers at the address of the API, as one service: the control plane, and its
//! neighbours where a request is theirs.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::response::Response;
use axum::routing::future::RouteFuture;
use axum::{BoxError, Router};
use bytes::Bytes;
use hearth_s3_api::Names;
use http::Request;
use http::header::HOST;
use tower::Service;

/// The control plane with its neighbours. Clones share them, as each request takes one.
#[derive(Debug, Clone)]
pub struct WholeApi(Arc<Routers>);

#[derive(Debug)]
struct Routers {
    names: Names,
    /// Goes on to the neighbours with what it does not know.
    control_plane: Router,
    neighbours: Router,
}

impl WholeApi {
    /// Requests whose host is a bucket are for `neighbours` alone: in those, all paths are keys.
    pub fn new(control_plane: Router, neighbours: Router, names: &[String]) -> Self {
        let control_plane = control_plane.fallback_service(neighbours.clone());
        Self(Arc::new(Routers { names: Names::new(names), control_plane, neighbours }))
    }
}

impl<B> Service<Request<B>> for WholeApi
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    /// Routers are always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Routers { names, control_plane, neighbours } = &*self.0;
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let of_bucket = host.is_some_and(|host| names.bucket(host).is_some());
        let router = if of_bucket { neighbours } else { control_plane };
        router.clone().call(request)
    }
}
