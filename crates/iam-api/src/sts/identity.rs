//! GetCallerIdentity and GetAccessKeyInfo.

use hearth_auth::sigv4::Denial;
use hearth_iam::Principal;
use hearth_service::Call;
use hearth_service::Error;
use hearth_service::Xml;

use super::Sts;
use crate::errors::VALIDATION_ERROR;

pub(super) fn caller(call: &Call) -> Xml {
    let principal = &call.caller().principal;
    let account = &call.caller().account;
    let id = match principal {
        Principal::User { id, .. } => id.clone(),
        Principal::AssumedRole { id, session, .. } => format!("{id}:{session}"),
        Principal::Root { .. } | Principal::Service { .. } => account.to_string(),
    };
    Xml::default().text("Arn", principal.arn()).text("UserId", id).text("Account", account)
}

/// AWS can tell the account of any key from its id; here only keys that are in force are known.
pub(super) fn access_key(sts: &Sts, call: &Call) -> Result<Xml, Error> {
    let id = call.input().required("AccessKeyId");
    match sts.identities.credential(id) {
        Ok(credential) => Ok(Xml::default().text("Account", credential.account)),
        Err(Denial::ExpiredToken) => Err(unknown(id, "has expired")),
        Err(_) => Err(unknown(id, "is not known here")),
    }
}

fn unknown(id: &str, why: &str) -> Error {
    Error::new(VALIDATION_ERROR, format!("The access key {id} {why}."))
}
