//! One order, from the account to the certificate.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use tokio::time::timeout;

use super::{AcmeError, ChallengeRecords, ORDER_TIMEOUT};

/// How long the ACME server may take to check a proof, or to sign.
const SERVER_TIMEOUT: Duration = Duration::from_mins(4);

/// Orders a certificate for every name directly below `suffix`; key and chain in PEM form.
pub(super) async fn complete(
    account: &Account,
    suffix: &str,
    records: &dyn ChallengeRecords,
) -> Result<(String, String), AcmeError> {
    let identifiers = [Identifier::Dns(format!("*.{suffix}"))];
    let wanted = NewOrder::new(&identifiers);
    let mut order =
        timeout(ORDER_TIMEOUT, account.new_order(&wanted)).await.map_err(|_| AcmeError::TooSlow)??;
    let mut presented = Vec::new();
    let done = timeout(ORDER_TIMEOUT, prove_and_finish(&mut order, records, &mut presented)).await;
    for (name, value) in presented {
        if let Err(error) = records.cleanup(&name, &value).await {
            tracing::warn!(name, error = &error as &dyn std::error::Error, "a TXT record stays");
        }
    }
    done.unwrap_or(Err(AcmeError::TooSlow))
}

async fn prove_and_finish(
    order: &mut Order,
    records: &dyn ChallengeRecords,
    presented: &mut Vec<(String, String)>,
) -> Result<(String, String), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        // Without the asterisk (RFC 8555, section 7.1.3).
        let Identifier::Dns(domain) = &authorization.identifier().identifier.clone() else {
            return Err(AcmeError::NoDnsChallenge);
        };
        let mut challenge = authorization.challenge(ChallengeType::Dns01).ok_or(AcmeError::NoDnsChallenge)?;
        let name = format!("_acme-challenge.{domain}");
        let value = challenge.key_authorization().dns_value();
        // Before it is made, as it may be there although its making failed.
        presented.push((name.clone(), value.clone()));
        records.present(&name, &value).await.map_err(AcmeError::Record)?;
        challenge.set_ready().await?;
    }
    let patience = RetryPolicy::new().timeout(SERVER_TIMEOUT);
    let status = order.poll_ready(&patience).await?;
    if status != OrderStatus::Ready {
        return Err(AcmeError::NotReady(format!("{status:?}").to_lowercase()));
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&patience).await?;
    Ok((key, chain))
}
