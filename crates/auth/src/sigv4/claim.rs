//! What a request says about its own signature, from the `Authorization` header or
//! the query string.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::coverage::{header_names, refuse_names};
use super::{ALGORITHM, SignedRequest, TERMINATOR};

/// `date/region/service/aws4_request`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScopeRef<'a> {
    /// `YYYYMMDD`.
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl fmt::Display for ScopeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{TERMINATOR}", self.date, self.region, self.service)
    }
}

/// Where the signature was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Header,
    /// In the query string; valid for this many seconds.
    Presigned {
        expires_seconds: i64,
    },
}

/// A signature and what it claims, unverified.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    credential: String,
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: String,
    pub(super) amz_date: String,
    pub(super) session_token: Option<String>,
    pub(super) form: Form,
}

/// A request without a signature, or with an unreadable one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    Absent,
    Incomplete(String),
}

impl Claim {
    /// Reads the claim of a request; the header form wins.
    pub(super) fn read(request: &SignedRequest<'_>) -> Result<Self, Unreadable> {
        if let Some(authorization) = request.header("authorization") {
            Self::from_header(request, authorization)
        } else if query_value(request.query, "X-Amz-Signature").is_some() {
            Self::from_query(request.query)
        } else {
            Err(Unreadable::Absent)
        }
    }

    fn from_header(request: &SignedRequest<'_>, authorization: &str) -> Result<Self, Unreadable> {
        let Some(parameters) = authorization.strip_prefix(ALGORITHM) else {
            return Err(Unreadable::Incomplete(format!(
                "The Authorization header must begin with {ALGORITHM}."
            )));
        };
        let find = |name: &str| {
            parameters
                .split(',')
                .filter_map(|pair| pair.trim().split_once('='))
                .find_map(|(key, value)| (key == name && !value.is_empty()).then(|| value.to_owned()))
                .ok_or_else(|| Unreadable::Incomplete(format!("The Authorization header lacks '{name}'.")))
        };
        let amz_date = request.header("x-amz-date").ok_or_else(|| {
            Unreadable::Incomplete("A signed request must have an 'X-Amz-Date' header.".to_owned())
        })?;
        Ok(Self {
            credential: find("Credential")?,
            signed_headers: accepted_names(&find("SignedHeaders")?)?,
            signature: find("Signature")?,
            amz_date: amz_date.to_owned(),
            session_token: request.header("x-amz-security-token").map(str::to_owned),
            form: Form::Header,
        })
    }

    fn from_query(query: &str) -> Result<Self, Unreadable> {
        let find = |name: &str| {
            query_value(query, name)
                .ok_or_else(|| Unreadable::Incomplete(format!("The query string lacks '{name}'.")))
        };
        if find("X-Amz-Algorithm")? != ALGORITHM {
            return Err(Unreadable::Incomplete(format!("X-Amz-Algorithm must be {ALGORITHM}.")));
        }
        let expires_seconds: i64 = find("X-Amz-Expires")?
            .parse()
            .ok()
            .filter(|seconds| (1..=604_800).contains(seconds))
            .ok_or_else(|| {
                Unreadable::Incomplete("X-Amz-Expires must be from 1 to 604800 seconds.".to_owned())
            })?;
        Ok(Self {
            credential: find("X-Amz-Credential")?,
            signed_headers: accepted_names(&find("X-Amz-SignedHeaders")?)?,
            signature: find("X-Amz-Signature")?,
            amz_date: find("X-Amz-Date")?,
            session_token: query_value(query, "X-Amz-Security-Token"),
            form: Form::Presigned { expires_seconds },
        })
    }

    /// Access key and scope of the credential.
    pub(super) fn credential(&self) -> Result<(&str, ScopeRef<'_>), Unreadable> {
        let mut parts = self.credential.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let read = || Some((next()?, ScopeRef { date: next()?, region: next()?, service: next()? }, next()?));
        match { read }() {
            Some((access_key, scope, TERMINATOR)) if parts.next().is_none() => Ok((access_key, scope)),
            _ => Err(Unreadable::Incomplete(
                "The credential must be <access key>/<YYYYMMDD>/<region>/<service>/aws4_request.".to_owned(),
            )),
        }
    }
}

fn accepted_names(list: &str) -> Result<Vec<String>, Unreadable> {
    match refuse_names(list) {
        None => Ok(header_names(list)),
        Some(sentence) => Err(Unreadable::Incomplete(sentence)),
    }
}

/// The service in the credential scope of a request, unverified; for choosing who answers it.
pub fn claimed_service(authorization: Option<&str>, query: &str) -> Option<String> {
    claimed_credential(authorization, query)?.split('/').nth(3).map(str::to_owned)
}

/// The access key in the credential scope of a request, unverified; `None` when the request names
/// none, or one of version 2, which has no scope.
pub fn claimed_access_key(authorization: Option<&str>, query: &str) -> Option<String> {
    let credential = claimed_credential(authorization, query)?;
    credential.split('/').next().filter(|key| !key.is_empty()).map(str::to_owned)
}

fn claimed_credential(authorization: Option<&str>, query: &str) -> Option<String> {
    match authorization {
        Some(text) => Some(text.split_once("Credential=")?.1.split([',', ' ']).next()?.to_owned()),
        None => query_value(query, "X-Amz-Credential"),
    }
}

/// Decoded value of the first query parameter of this name.
fn query_value(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned())
}
