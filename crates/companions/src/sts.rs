//! STS GetCallerIdentity (query protocol), because every script asks who it is.

use hearth_identity::Caller;

/// Version of the STS API, also the XML namespace.
const VERSION: &str = "2011-06-15";

/// What to answer to a form body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200.
    Ok(String),
    /// 400 with an error document.
    Refused(String),
}

/// Answers one call whose signature was verified.
pub(crate) fn call(form: &str, caller: &Caller, request_id: &str) -> Answer {
    let action = form.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or("");
    if action != "GetCallerIdentity" {
        let message = "Only the action GetCallerIdentity of STS is served here.";
        return Answer::Refused(error("InvalidAction", message, request_id));
    }
    let (account, arn) = (&caller.account, caller.principal.arn());
    Answer::Ok(format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/{VERSION}/\"><GetCallerIdentityResult>\
         <Arn>{arn}</Arn><UserId>{account}</UserId><Account>{account}</Account>\
         </GetCallerIdentityResult><ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>\
         </GetCallerIdentityResponse>"
    ))
}

/// Error document of the query protocol; `code` and `message` must need no escaping.
pub(crate) fn error(code: &str, message: &str, request_id: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/{VERSION}/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
}

#[cfg(test)]
mod tests {
    use hearth_api::AccountId;

    use super::*;

    #[test]
    fn only_get_caller_identity_is_served() {
        let account = AccountId::from_stored("000000000000");
        let caller = Caller {
            access_key: "AK".to_owned(),
            account: account.clone(),
            principal: hearth_iam::Principal::Root { account },
            session: None,
            source_ip: None,
            user_agent: None,
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let Answer::Ok(xml) = call("Action=GetCallerIdentity&Version=2011-06-15", &caller, "r") else {
            panic!("refused");
        };
        assert!(xml.contains("<Account>000000000000</Account>"));
        assert!(matches!(call("Action=AssumeRole", &caller, "r"), Answer::Refused(_)));
    }
}
