//! Signing in the header form, for our own client.

use jiff::Timestamp;

use super::canonical::{PathEncoding, canonical_request};
use super::claim::ScopeRef;
use super::signing_key::derive;
use super::{ALGORITHM, AMZ_DATE, SignedRequest, sha256_hex, signature};

/// With which key and for what a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Access key id.
    pub access_key: &'a str,
    /// Secret access key.
    pub secret: &'a str,
    /// Region name.
    pub region: &'a str,
    /// Signing name of the service, such as `lambda`.
    pub service: &'a str,
}

/// Signs `request`, whose headers must contain `host`; returns the headers to add: `x-amz-date`,
/// `x-amz-content-sha256` and `authorization`. Every header given is signed.
pub fn sign(request: &SignedRequest<'_>, scope: &Scope<'_>, now: Timestamp) -> Vec<(&'static str, String)> {
    let amz_date = now.strftime(AMZ_DATE).to_string();
    let payload_hash = sha256_hex(request.body);
    let mut headers = request.headers.to_vec();
    headers.push(("x-amz-date", amz_date.as_bytes()));
    headers.push(("x-amz-content-sha256", payload_hash.as_bytes()));
    let mut signed_headers: Vec<String> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    signed_headers.sort();
    signed_headers.dedup();

    let scope_ref = ScopeRef { date: &amz_date[..8], region: scope.region, service: scope.service };
    let path = PathEncoding::of_service(scope.service).candidates(request.path).next().unwrap_or_default();
    let to_sign = SignedRequest { headers: &headers, ..*request };
    let canonical = canonical_request(&to_sign, &path, &signed_headers, &payload_hash);
    let signature = signature(&derive(scope.secret, &scope_ref), &scope_ref, &amz_date, &canonical);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope_ref}, SignedHeaders={}, Signature={signature}",
        scope.access_key,
        signed_headers.join(";"),
    );
    vec![("x-amz-date", amz_date), ("x-amz-content-sha256", payload_hash), ("authorization", authorization)]
}
