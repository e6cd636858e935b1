//! Verification of a signed request.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use hearth_api::AccountId;
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

use super::canonical::{PathEncoding, canonical_request};
use super::claim::{Claim, Form};
use super::coverage::unsigned_header;
use super::credentials::Lookup;
use super::denial::Denial;
use super::{AMZ_DATE, SignedRequest, SigningKeys, UNSIGNED_PAYLOAD, sha256_hex, signature};

/// How far the caller's clock may be off.
const MAXIMUM_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Who made a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Access key that signed.
    pub access_key: String,
    /// Account of the key.
    pub account: AccountId,
    /// Region of the credential scope.
    pub region: String,
}

/// Verifies that `request` was signed for `service` at about `now` with a key that `lookup` knows.
pub fn verify(
    request: &SignedRequest<'_>,
    service: &str,
    now: Timestamp,
    keys: &SigningKeys,
    lookup: impl FnOnce(&str) -> Lookup,
) -> Result<Identity, Denial> {
    let claim = Claim::read(request)?;
    let credential = examine(&claim, request, service, now, lookup)?;
    let (access_key, scope) = claim.credential()?;
    let payload_hash = payload_hash(request, service, claim.form)?;
    let key = keys.get(&credential.secret, &scope);
    let matches = PathEncoding::of_service(service).candidates(request.path).any(|path| {
        let canonical = canonical_request(request, &path, &claim.signed_headers, &payload_hash);
        let expected = signature(&key, &scope, &claim.amz_date, &canonical);
        verify_slices_are_equal(expected.as_bytes(), claim.signature.as_bytes()).is_ok()
    });
    if !matches {
        return Err(Denial::Mismatch);
    }
    check_token(claim.session_token.as_deref(), credential.session_token.as_deref())?;
    Ok(Identity {
        access_key: access_key.to_owned(),
        account: credential.account,
        region: scope.region.to_owned(),
    })
}

/// What [`verify`] checks that needs no body: a key that `lookup` knows with its session token,
/// scope and date. The body of `request` is not looked at.
pub fn check_head(
    request: &SignedRequest<'_>,
    service: &str,
    now: Timestamp,
    lookup: impl FnOnce(&str) -> Lookup,
) -> Result<(), Denial> {
    let claim = Claim::read(request)?;
    let credential = examine(&claim, request, service, now, lookup)?;
    check_token(claim.session_token.as_deref(), credential.session_token.as_deref())
}

/// What can be told from the claim alone, for a caller that verifies the rest elsewhere: that
/// `request` was signed for `service`, at about `now`.
pub fn check_scope(request: &SignedRequest<'_>, service: &str, now: Timestamp) -> Result<(), Denial> {
    let claim = Claim::read(request)?;
    check_service(&claim, service)?;
    check_time(&claim, now)
}

/// The service and the date of the scope.
fn check_service(claim: &Claim, service: &str) -> Result<(), Denial> {
    let (_, scope) = claim.credential()?;
    if scope.service != service {
        return Err(Denial::WrongService { expected: service.to_owned() });
    }
    if !claim.amz_date.starts_with(scope.date) {
        return Err(Denial::Incomplete("The date of the credential is not that of X-Amz-Date.".to_owned()));
    }
    Ok(())
}

/// The credential of a claim for `service` at about `now`.
fn examine(
    claim: &Claim,
    request: &SignedRequest<'_>,
    service: &str,
    now: Timestamp,
    lookup: impl FnOnce(&str) -> Lookup,
) -> Lookup {
    check_service(claim, service)?;
    if !claim.signed_headers.iter().any(|name| name == "host") {
        return Err(Denial::Incomplete("The 'Host' header must be signed.".to_owned()));
    }
    let names = request.headers.iter().map(|(name, _)| *name);
    if let Some(name) = unsigned_header(names, &claim.signed_headers) {
        return Err(Denial::HeaderNotSigned(name.to_ascii_lowercase()));
    }
    check_time(claim, now)?;
    lookup(claim.credential()?.0)
}

/// Compares the token that was sent with the one that belongs to the key.
pub fn check_token(sent: Option<&str>, expected: Option<&str>) -> Result<(), Denial> {
    match (sent.filter(|token| !token.is_empty()), expected) {
        (None, None) => Ok(()),
        (Some(sent), Some(expected))
            if verify_slices_are_equal(sent.as_bytes(), expected.as_bytes()).is_ok() =>
        {
            Ok(())
        }
        _ => Err(Denial::WrongToken),
    }
}

fn check_time(claim: &Claim, now: Timestamp) -> Result<(), Denial> {
    let signed_at = civil::DateTime::strptime(AMZ_DATE, &claim.amz_date)
        .and_then(|date| date.to_zoned(TimeZone::UTC))
        .map_err(|_| Denial::Incomplete("X-Amz-Date must have the form YYYYMMDDTHHMMSSZ.".to_owned()))?
        .timestamp();
    let show = |moment: Timestamp| moment.strftime(AMZ_DATE).to_string();
    if signed_at > now + MAXIMUM_SKEW {
        let detail = format!(
            "{} is still later than {} ({} + 5 min.)",
            claim.amz_date,
            show(now + MAXIMUM_SKEW),
            show(now)
        );
        return Err(Denial::NotYetCurrent(detail));
    }
    let valid_for = match claim.form {
        Form::Header => MAXIMUM_SKEW,
        Form::Presigned { expires_seconds } => SignedDuration::from_secs(expires_seconds),
    };
    if signed_at + valid_for < now {
        let detail = match claim.form {
            Form::Header => format!(
                "{} is now earlier than {} ({} - 5 min.)",
                claim.amz_date,
                show(now - MAXIMUM_SKEW),
                show(now)
            ),
            Form::Presigned { .. } => format!("the request was valid until {}", show(signed_at + valid_for)),
        };
        return Err(Denial::Expired(detail));
    }
    Ok(())
}

/// The payload hash that was signed, after checking that the body has it.
fn payload_hash(request: &SignedRequest<'_>, service: &str, form: Form) -> Result<String, Denial> {
    let unsigned_allowed = service == "s3";
    match request.header("x-amz-content-sha256") {
        Some(UNSIGNED_PAYLOAD) if unsigned_allowed => Ok(UNSIGNED_PAYLOAD.to_owned()),
        None if unsigned_allowed && form != Form::Header => Ok(UNSIGNED_PAYLOAD.to_owned()),
        None => Ok(sha256_hex(request.body)),
        Some(claimed) => {
            let actual = sha256_hex(request.body);
            if claimed == actual { Ok(actual) } else { Err(Denial::BodyMismatch) }
        }
    }
}
