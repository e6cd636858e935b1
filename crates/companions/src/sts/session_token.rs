//! GetSessionToken.

use hearth_iam::Principal;
use hearth_identity::{Session, SessionOf};

use super::Call;
use crate::query::shape::{
    Kind::{Integer, Text},
    Member, optional,
};
use crate::query::texts::{SERIAL_NUMBER, TOKEN_CODE};
use crate::query::xml::Xml;
use crate::query::{Code, Refusal};

pub(super) const MEMBERS: &[Member] = &[
    optional("DurationSeconds", Integer(900, 129_600)),
    optional("SerialNumber", Text(SERIAL_NUMBER)),
    optional("TokenCode", Text(TOKEN_CODE)),
    optional("MinimumSessionTokenSize", Integer(0, 4096)),
];

/// Seconds when the call does not say (STS API reference, GetSessionToken).
const DEFAULT_SECONDS: u32 = 43_200;
/// Longest session of a root user; longer ones are shortened (same page).
const ROOT_SECONDS: u32 = 3600;

pub(super) async fn get(call: &Call<'_>) -> Result<Xml, Refusal> {
    call.refuse_mfa()?;
    let seconds = call.input.number("DurationSeconds").unwrap_or(DEFAULT_SECONDS);
    let (of, seconds) = match &call.caller.principal {
        Principal::Root { .. } => (SessionOf::Root, seconds.min(ROOT_SECONDS)),
        Principal::User { name, id, .. } => (SessionOf::User { name: name.clone(), id: id.clone() }, seconds),
        Principal::AssumedRole { .. } | Principal::Service { .. } => {
            let message = "Cannot call GetSessionToken with session credentials";
            return Err(Refusal::new(Code::AccessDenied, message));
        }
    };
    let session = Session::new(call.account(), of, None, seconds);
    call.start(session, Xml::default()).await
}
