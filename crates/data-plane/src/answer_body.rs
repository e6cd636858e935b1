//! The bodies of answers to the client: streamed, never held whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hearth_node::Passing;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use crate::http1::Http1Answer;
use crate::http2::Http2Answer;

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

impl AnswerBody {
    /// Holds back a suspend until it has come to its end.
    pub(crate) fn held(mut self, passing: Passing) -> Self {
        match &mut self {
            Self::Own(_) => {}
            Self::Http1(answer) => answer.passing = Some(passing),
            Self::Http2(answer) => answer.passing = Some(passing),
        }
        self
    }
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
            Self::Http2(answer) => Pin::new(&mut answer.body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(answer) => answer.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(answer) => answer.body.size_hint(),
        }
    }
}
