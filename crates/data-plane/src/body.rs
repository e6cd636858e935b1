//! The bodies of requests to the app and of answers to the client. Both are streamed; neither is ever held whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::http1::Http1Answer;
use crate::http2::Http2Answer;

/// Body of a request to the app: the client's, or none.
#[derive(Debug)]
pub(crate) struct AppBody {
    client: Option<Incoming>,
    /// Dropped with the body, by which the sender of the request sees that it has been sent.
    unsent: Option<Arc<()>>,
}

impl AppBody {
    pub(crate) fn none() -> Self {
        Self { client: None, unsent: None }
    }

    pub(crate) fn of_client(body: Incoming) -> Self {
        let client = Some(body).filter(|body| !body.is_end_stream());
        Self { client, unsent: None }
    }

    /// What is shared as long as the body has not been sent; nothing if there is no body.
    pub(crate) fn watch(&mut self) -> Option<Arc<()>> {
        self.client.as_ref()?;
        Some(Arc::clone(self.unsent.get_or_insert_default()))
    }
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.client.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.client.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.client.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Body of an answer to the client.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// Of the endpoint itself.
    Own(Full<Bytes>),
    /// Of the app, over HTTP/1.1.
    Http1(Http1Answer),
    /// Of the app, over HTTP/2.
    Http2(Http2Answer),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Own(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|e| match e {}))),
            Self::Http1(body) => Pin::new(body).poll_frame(context),
            Self::Http2(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// A body that counts as an open stream of its client's connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Tracked {
    body: AnswerBody,
    _open: Arc<AtomicU64>,
}

impl Tracked {
    pub(crate) fn new(body: AnswerBody, open: Arc<AtomicU64>) -> Self {
        Self { body, _open: open }
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
