//! GetSessionToken.

use hearth_iam::Principal;
use hearth_identity::{Session, SessionOf};
use hearth_service::Call;
use hearth_service::Error;
use hearth_service::Xml;
use hearth_service::shape::{Member, Shape, optional};

use super::{Sts, refuse_mfa};
use crate::errors::ACCESS_DENIED;
use crate::texts::{SERIAL_NUMBER, TOKEN_CODE};

pub(super) const MEMBERS: &[Member] = &[
    optional("DurationSeconds", &Shape::Integer(900, 129_600)),
    optional("SerialNumber", &SERIAL_NUMBER),
    optional("TokenCode", &TOKEN_CODE),
    optional("MinimumSessionTokenSize", &Shape::Integer(0, 4096)),
];

/// Seconds when the call does not say (STS API reference, GetSessionToken).
const DEFAULT_SECONDS: u32 = 43_200;
/// Longest session of a root user; longer ones are shortened (same page).
const ROOT_SECONDS: u32 = 3600;

pub(super) async fn get(sts: &Sts, call: &Call) -> Result<Xml, Error> {
    refuse_mfa(call)?;
    let seconds = call.input().number("DurationSeconds").unwrap_or(DEFAULT_SECONDS);
    let (of, seconds) = match &call.caller().principal {
        Principal::Root { .. } => (SessionOf::Root, seconds.min(ROOT_SECONDS)),
        Principal::User { name, id, .. } => (SessionOf::User { name: name.clone(), id: id.clone() }, seconds),
        Principal::AssumedRole { .. } | Principal::Service { .. } => {
            let message = "Cannot call GetSessionToken with session credentials";
            return Err(Error::new(ACCESS_DENIED, message));
        }
    };
    let session = Session::new(call.caller().account.clone(), of, None, seconds);
    sts.start(call, session, Xml::default()).await
}
