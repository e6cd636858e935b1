//! STS: who the caller is, and temporary credentials (API version 2011-06-15).
//!
//! Reading order: [`call`], `assume_role`, `session_token`.

mod assume_role;
mod identity;
mod session_token;

use hearth_api::AccountId;
use hearth_identity::{Caller, Identities, IdentityError, Session, SessionOf};

use crate::query::form::Form;
use crate::query::shape::{Input, Kind::Text, Member, required};
use crate::query::texts::STS_ACCESS_KEY_ID;
use crate::query::xml::Xml;
use crate::query::{Code, Refusal};

/// A row of the table.
#[derive(Debug)]
struct Operation {
    name: &'static str,
    members: &'static [Member],
    may: May,
}

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    /// Everyone (STS API reference: "No permissions are required").
    Everyone,
    /// Whom policies allow the action on `*`.
    Allowed,
    /// Whom the role's trust policy allows it as well.
    Trusted,
}

const OPERATIONS: &[Operation] = &[
    Operation { name: "GetCallerIdentity", members: &[], may: May::Everyone },
    Operation { name: "GetSessionToken", members: session_token::MEMBERS, may: May::Everyone },
    Operation {
        name: "GetAccessKeyInfo",
        members: &[required("AccessKeyId", Text(STS_ACCESS_KEY_ID))],
        may: May::Allowed,
    },
    Operation { name: "AssumeRole", members: assume_role::MEMBERS, may: May::Trusted },
];

/// A call whose input fits.
#[derive(Debug)]
struct Call<'a> {
    identities: &'a Identities,
    caller: &'a Caller,
    input: Input,
}

/// Answers a call whose signature was verified.
pub(crate) async fn call(
    identities: &Identities,
    action: &str,
    form: Form,
    caller: &Caller,
) -> Result<Option<Xml>, Refusal> {
    let Some(operation) = OPERATIONS.iter().find(|operation| operation.name == action) else {
        return Err(Refusal::new(
            Code::InvalidAction,
            format!("The action {action} of STS is not served here."),
        ));
    };
    refuse_session_tokens(action, caller)?;
    let call = Call { identities, caller, input: Input::check(form, operation.members)? };
    match operation.may {
        May::Everyone => {}
        May::Allowed => identities.authorize(caller, &caller.request(format!("sts:{action}"), "*"))?,
        May::Trusted => assume_role::authorize(&call)?,
    }
    let result = match operation.name {
        "GetCallerIdentity" => identity::caller(&call),
        "GetAccessKeyInfo" => identity::access_key(&call)?,
        "GetSessionToken" => session_token::get(&call).await?,
        _ => assume_role::assume(&call).await?,
    };
    Ok(Some(result))
}

/// With credentials of GetSessionToken only two of the actions can be called (STS API
/// reference, GetSessionToken).
fn refuse_session_tokens(action: &str, caller: &Caller) -> Result<(), Refusal> {
    let of = caller.session.as_ref().map(|session| &session.of);
    let from_session_token = matches!(of, Some(SessionOf::Root | SessionOf::User { .. }));
    if from_session_token && !matches!(action, "GetCallerIdentity" | "AssumeRole") {
        let message = format!("Cannot call {action} with session credentials");
        return Err(Refusal::new(Code::AccessDenied, message));
    }
    Ok(())
}

impl Call<'_> {
    /// Puts fresh credentials in force, and adds them to the answer.
    async fn start(&self, session: Session, result: Xml) -> Result<Xml, Refusal> {
        let credentials = Xml::default()
            .text("AccessKeyId", &session.access_key)
            .text("SecretAccessKey", &session.secret)
            .text("SessionToken", &session.token)
            .time("Expiration", session.expires_at);
        self.identities.add_session(session.made_by(self.caller)).await.map_err(|error| match error {
            IdentityError::Gone => Refusal::new(Code::AccessDenied, "The user or role was deleted just now."),
            chained @ IdentityError::TooManyOrigins => {
                Refusal::new(Code::ValidationError, format!("Role chaining: {chained}."))
            }
            other => Refusal::failure(&other),
        })?;
        Ok(result.element("Credentials", credentials))
    }

    /// There are no MFA devices.
    fn refuse_mfa(&self) -> Result<(), Refusal> {
        if self.input.get("SerialNumber").or(self.input.get("TokenCode")).is_none() {
            return Ok(());
        }
        let message = "MultiFactorAuthentication failed: there are no MFA devices here.";
        Err(Refusal::new(Code::AccessDenied, message))
    }

    fn account(&self) -> AccountId {
        self.caller.account.clone()
    }
}
