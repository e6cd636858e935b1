//! How a port of an app is spoken to.

/// How an app is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppProtocol {
    Http1,
    Http2,
}

/// What HTTP is spoken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Plain,
    /// TLS, with the protocol that the app prefers.
    Tls(AppProtocol),
}
