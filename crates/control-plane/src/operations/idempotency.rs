//! `clientToken`: the same token with the same parameters gets the first answer again.

use hearth_api::AccountId;
use hearth_records::{ClientToken, TokenClaim};
use hearth_service::Error;
use serde::Serialize;

use crate::config::Context;

/// The token of a request, if it has one. `parameters` is the request without it, `answer`
/// what it will be given.
pub(crate) fn client_token(
    account: &AccountId,
    operation: &'static str,
    token: Option<String>,
    parameters: &impl Serialize,
    answer: &str,
) -> Option<ClientToken> {
    let token = token?;
    let parameters = serde_json::to_vec(parameters).expect("invariant: requests have string keys only");
    Some(ClientToken {
        account: account.clone(),
        operation,
        token,
        parameters_hash: blake3::hash(&parameters).to_hex().to_string(),
        answer: answer.to_owned(),
    })
}

impl Context {
    /// The answer that a token stands for already, if there is a token and it does.
    pub(crate) async fn first_answer(&self, token: Option<ClientToken>) -> Result<Option<String>, Error> {
        let Some(token) = token else { return Ok(None) };
        replay(self.services.store.client_token(&token).await?)
    }
}

/// `None`: go on. `Some`: give this answer again.
pub(crate) fn replay(claim: TokenClaim) -> Result<Option<String>, Error> {
    match claim {
        TokenClaim::Fresh => Ok(None),
        TokenClaim::Replay(answer) => Ok(Some(answer)),
        TokenClaim::Mismatch => {
            Err(Error::validation("The provided clientToken was used with different request parameters."))
        }
    }
}
