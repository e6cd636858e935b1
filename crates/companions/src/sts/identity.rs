//! GetCallerIdentity and GetAccessKeyInfo.

use hearth_auth::sigv4::Denial;
use hearth_iam::Principal;

use super::Call;
use crate::query::xml::Xml;
use crate::query::{Code, Refusal};

pub(super) fn caller(call: &Call<'_>) -> Xml {
    let principal = &call.caller.principal;
    let account = call.account();
    let id = match principal {
        Principal::User { id, .. } => id.clone(),
        Principal::AssumedRole { id, session, .. } => format!("{id}:{session}"),
        Principal::Root { .. } | Principal::Service { .. } => account.to_string(),
    };
    Xml::default().text("Arn", principal.arn()).text("UserId", id).text("Account", account)
}

/// AWS can tell the account of any key from its id; here only keys that are in force are known.
pub(super) fn access_key(call: &Call<'_>) -> Result<Xml, Refusal> {
    let id = call.input.required("AccessKeyId");
    match call.identities.credential(id) {
        Ok(credential) => Ok(Xml::default().text("Account", credential.account)),
        Err(Denial::ExpiredToken) => Err(unknown(id, "has expired")),
        Err(_) => Err(unknown(id, "is not known here")),
    }
}

fn unknown(id: &str, why: &str) -> Refusal {
    Refusal::new(Code::ValidationError, format!("The access key {id} {why}."))
}
