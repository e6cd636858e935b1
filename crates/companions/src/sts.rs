//! STS GetCallerIdentity (query protocol), because every script asks who it is.

use hearth_auth::sigv4::Identity;

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
pub(crate) fn call(form: &str, identity: &Identity, request_id: &str) -> Answer {
    let action = form.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or("");
    if action != "GetCallerIdentity" {
        let message = "Only the action GetCallerIdentity of STS is served here.";
        return Answer::Refused(error("InvalidAction", message, request_id));
    }
    let account = &identity.account;
    Answer::Ok(format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/{VERSION}/\"><GetCallerIdentityResult>\
         <Arn>arn:aws:iam::{account}:root</Arn><UserId>{account}</UserId><Account>{account}</Account>\
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
        let identity = Identity {
            access_key: "AK".to_owned(),
            account: AccountId::from_stored("000000000000"),
            region: "us-east-1".to_owned(),
        };
        let Answer::Ok(xml) = call("Action=GetCallerIdentity&Version=2011-06-15", &identity, "r") else {
            panic!("refused");
        };
        assert!(xml.contains("<Account>000000000000</Account>"));
        assert!(matches!(call("Action=AssumeRole", &identity, "r"), Answer::Refused(_)));
    }
}
