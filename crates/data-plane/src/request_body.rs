//! The bodies of requests to the app: streamed, never held whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

use crate::call::Call;

/// How long the rest of a request is read and thrown away when it has been answered early.
const LINGER_TIMEOUT: Duration = Duration::from_secs(30);

/// Body of a request: the client's, or none.
///
/// What is left of it when it is dropped, because the app or the endpoint has answered already,
/// is still read for a while over HTTP/1.1: a client that is sending would otherwise meet a
/// closed connection and not see the answer. HTTP/2 has a way to say that the rest is not wanted
/// (RFC 9113, section 8.1).
#[derive(Debug)]
pub(crate) struct AppBody {
    client: Option<Incoming>,
    /// Counts what passes.
    call: Option<Call>,
    is_of_http1: bool,
    lingers: bool,
    /// Dropped with the body, by which the sender of the request sees that it has been sent.
    unsent: Option<Arc<()>>,
}

impl AppBody {
    pub(crate) fn none() -> Self {
        Self { client: None, call: None, is_of_http1: false, lingers: false, unsent: None }
    }

    /// The body of a client's request.
    pub(crate) fn of_client(request: Request<Incoming>, call: &Call) -> Request<Self> {
        // A client that waits to be told to go on is told so by reading, and shall
        // not be for nothing.
        let is_of_http1 = request.version() <= Version::HTTP_11;
        let lingers = is_of_http1 && !request.headers().contains_key(EXPECT);
        request.map(|body| {
            let client = Some(body).filter(|body| !body.is_end_stream());
            Self { client, call: Some(call.clone()), is_of_http1, lingers, unsent: None }
        })
    }

    /// What is shared as long as the body has not been sent; nothing if there is no body.
    pub(crate) fn watch(&mut self) -> Option<Arc<()>> {
        self.client.as_ref()?;
        Some(Arc::clone(self.unsent.get_or_insert_default()))
    }
}

impl Drop for AppBody {
    fn drop(&mut self) {
        let left = self.client.take().filter(|body| self.lingers && !body.is_end_stream());
        if let Some(mut body) = left
            && let Ok(runtime) = Handle::try_current()
        {
            let drain = async move { while let Some(Ok(_)) = body.frame().await {} };
            runtime.spawn(tokio::time::timeout(LINGER_TIMEOUT, drain));
        }
    }
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.client else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(call)) = (frame.data_ref(), &self.call) {
                    call.received(data.len() as u64);
                }
                // The client has been told to go on by now.
                self.lingers |= self.is_of_http1;
            }
            Some(Err(_)) | None => self.client = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.client.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.client.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
