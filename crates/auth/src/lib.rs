//! SigV4 checks and endpoint tokens; pure: bytes and a time in, verdict out.
//!
//! Nothing here reads a clock, a file or a socket. Read [`sigv4`] for the API port and
//! [`endpoint_token`] for the endpoints of microVMs.

pub mod endpoint_token;
pub mod sigv4;

pub use endpoint_token::{
    Claims, LONGEST_LIFE_SECONDS, OpenedTokens, TokenError, TokenKey, TokenKeys, TokenKind,
};
pub use sigv4::credentials::{Credential, Lookup};
