//! Bucket policies: kept as they were put, parsed once by the engine that reads all policies, and
//! asked at every request.

use hearth_iam::{Document, DocumentKind, PolicyError, Request};
use hearth_identity::{Caller, Identities};
use s3s::dto::{
    DeleteBucketPolicyInput, DeleteBucketPolicyOutput, GetBucketPolicyInput, GetBucketPolicyOutput,
    GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput, PolicyStatus, PutBucketPolicyInput,
    PutBucketPolicyOutput,
};
use s3s::{S3Error, S3Request, S3Result, s3_error};
use serde_json::Value;

use super::ObjectStorage;
use super::access::Asker;
use super::bucket::{Bucket, MAXIMUM_POLICY};

/// A bucket policy, parsed.
#[derive(Debug)]
pub(super) struct Policy {
    document: Document,
    is_public: bool,
}

impl Policy {
    pub(super) fn read(text: &str) -> Result<Self, PolicyError> {
        #[cfg(test)]
        PARSED.set(PARSED.get() + 1);
        let document = Document::parse(text, DocumentKind::Resource, MAXIMUM_POLICY)?;
        Ok(Self { document, is_public: is_public(text) })
    }
}

#[cfg(test)]
thread_local! {
    /// Policies that were parsed on this thread.
    pub(super) static PARSED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The policy that has a say in a request to a bucket, which is the account's `own` or not; or why
/// the request is refused whatever it says.
pub(super) fn deciding(bucket: &Bucket, own: bool) -> Result<Option<&Document>, &'static str> {
    let policy = bucket.policy.as_ref();
    let policy = policy.map_err(|_| "The bucket policy cannot be read; put it again or delete it.")?.as_ref();
    let restricted = !own
        && bucket.record.public_access_block.is_some_and(|block| block.restrict_public_buckets)
        && policy.is_some_and(|policy| policy.is_public);
    if restricted {
        return Err("The bucket policy is public, and RestrictPublicBuckets keeps other accounts out.");
    }
    Ok(policy.map(|policy| &policy.document))
}

/// Why the caller may not do what it asks for; `None` when it may. In its own account either side's
/// consent is enough, in another's both are needed.
pub(super) fn decide(
    identities: &Identities,
    caller: &Caller,
    request: &Request,
    bucket: &Bucket,
    own: bool,
) -> Option<String> {
    match deciding(bucket, own) {
        Ok(policy) => identities.decide(caller, request, policy).denial(request),
        Err(sentence) => Some(sentence.to_owned()),
    }
}

impl ObjectStorage {
    pub(super) async fn put_bucket_policy(
        &self,
        request: S3Request<PutBucketPolicyInput>,
    ) -> S3Result<PutBucketPolicyOutput> {
        let bucket = Asker::bucket_of(&request)?;
        let text = request.input.policy;
        if text.len() > MAXIMUM_POLICY {
            let length = text.len();
            return Err(s3_error!(
                MalformedPolicy,
                "The policy has {length} bytes. A bucket policy may have {MAXIMUM_POLICY}, white space included."
            ));
        }
        Document::parse(&text, DocumentKind::Resource, MAXIMUM_POLICY).map_err(malformed)?;
        check_resources(&text, &bucket.name)?;
        let blocked = bucket.record.public_access_block.is_some_and(|block| block.block_public_policy);
        if blocked && is_public(&text) {
            return Err(s3_error!(
                AccessDenied,
                "The policy is public: it allows something to everybody without a condition that says whom. \
                 BlockPublicPolicy of the bucket's public access block forbids that."
            ));
        }
        self.change(bucket, move |record| record.policy = Some(text)).await?;
        Ok(PutBucketPolicyOutput::default())
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_policy(
        &self,
        request: S3Request<GetBucketPolicyInput>,
    ) -> S3Result<GetBucketPolicyOutput> {
        let policy = Asker::bucket_of(&request)?.record.policy.clone().ok_or_else(no_policy)?;
        Ok(GetBucketPolicyOutput { policy: Some(policy) })
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_policy_status(
        &self,
        request: S3Request<GetBucketPolicyStatusInput>,
    ) -> S3Result<GetBucketPolicyStatusOutput> {
        let policy = Asker::bucket_of(&request)?.record.policy.clone().ok_or_else(no_policy)?;
        let is_public = Some(is_public(&policy));
        Ok(GetBucketPolicyStatusOutput { policy_status: Some(PolicyStatus { is_public }) })
    }

    pub(super) async fn delete_bucket_policy(
        &self,
        request: S3Request<DeleteBucketPolicyInput>,
    ) -> S3Result<DeleteBucketPolicyOutput> {
        self.change(Asker::bucket_of(&request)?, |record| record.policy = None).await?;
        Ok(DeleteBucketPolicyOutput::default())
    }
}

fn no_policy() -> S3Error {
    s3_error!(NoSuchBucketPolicy, "The bucket policy does not exist")
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn malformed(error: PolicyError) -> S3Error {
    s3_error!(MalformedPolicy, "{error}")
}

/// A policy speaks of its own bucket only.
fn check_resources(text: &str, bucket: &str) -> S3Result<()> {
    let own = format!("arn:aws:s3:::{bucket}");
    let of_bucket = |resource: &str| {
        // A pattern may cover the bucket as well: `*`, or `arn:aws:s3:::b*`.
        let fixed = resource.split(['*', '?', '$']).next().unwrap_or_default();
        let rest = resource.strip_prefix(&own);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '*', '?']))
            || (fixed.len() < resource.len() && own.starts_with(fixed))
    };
    let foreign = statements(text).into_iter().find_map(|statement| {
        let resources = ["Resource", "NotResource"].into_iter().flat_map(|name| strings(&statement[name]));
        resources.into_iter().find(|resource| !of_bucket(resource))
    });
    match foreign {
        None => Ok(()),
        Some(resource) => Err(s3_error!(
            MalformedPolicy,
            "Policy has invalid resource: {resource} is not in the bucket {bucket}"
        )),
    }
}

/// Whether a policy allows something to everybody ("The meaning of public", S3 user guide): a
/// statement that names no one and has no condition that fixes who it is.
pub(super) fn is_public(text: &str) -> bool {
    statements(text).iter().any(|statement| {
        let everybody = match &statement["Principal"] {
            Value::String(all) => all == "*",
            Value::Object(kinds) => {
                kinds.get("AWS").is_some_and(|names| strings(names).iter().any(|name| name == "*"))
            }
            // Allow with NotPrincipal is everybody but some.
            _ => statement.get("NotPrincipal").is_some(),
        };
        everybody && statement["Effect"] == "Allow" && !is_fixed(&statement["Condition"])
    })
}

/// Condition keys that can say whom a statement is for, in lower case.
const FIXING: [&str; 13] = [
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceip",
    "aws:sourceowner",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:userid",
    "s3:dataaccesspointaccount",
    "s3:dataaccesspointarn",
];

/// Whether a condition compares one of these keys, positively, with values that are
/// no mere wildcard.
fn is_fixed(condition: &Value) -> bool {
    let Value::Object(operators) = condition else { return false };
    operators.iter().any(|(operator, keys)| {
        let operator = operator.to_ascii_lowercase();
        let weak = operator.contains("not") || operator.ends_with("ifexists") || operator.contains(':');
        let Value::Object(keys) = keys else { return false };
        !weak
            && keys.iter().any(|(key, values)| {
                let values = strings(values);
                let open = |value: &String| value.starts_with(['*', '?']) || value.ends_with("/0");
                FIXING.contains(&key.to_ascii_lowercase().as_str())
                    && !values.is_empty()
                    && !values.iter().any(open)
            })
    })
}

fn statements(text: &str) -> Vec<Value> {
    let mut document: Value = serde_json::from_str(text).unwrap_or_default();
    match document["Statement"].take() {
        Value::Array(statements) => statements,
        one => vec![one],
    }
}

/// A string or a list of strings.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(values) => values.iter().filter_map(|value| Some(value.as_str()?.to_owned())).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(members: &str) -> String {
        format!(r#"{{"Statement":[{{"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*",{members}}}]}}"#)
    }

    #[test]
    fn public_is_what_names_nobody() {
        let fixed = |operator: &str, key: &str, value: &str| {
            policy(&format!(
                r#""Effect":"Allow","Principal":"*","Condition":{{"{operator}":{{"{key}":"{value}"}}}}"#
            ))
        };
        for public in [
            policy(r#""Effect":"Allow","Principal":"*""#),
            policy(r#""Effect":"Allow","Principal":{"AWS":["*"]}"#),
            policy(r#""Effect":"Allow","NotPrincipal":{"AWS":"111122223333"}"#),
            fixed("IpAddress", "aws:SourceIp", "0.0.0.0/0"),
            fixed("StringLike", "aws:PrincipalArn", "*"),
            fixed("StringNotEquals", "aws:PrincipalAccount", "111122223333"),
            fixed("Bool", "aws:SecureTransport", "true"),
        ] {
            assert!(is_public(&public), "{public}");
        }
        for closed in [
            policy(r#""Effect":"Deny","Principal":"*""#),
            policy(r#""Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"}"#),
            fixed("StringEquals", "aws:PrincipalAccount", "111122223333"),
            fixed("IpAddress", "AWS:SourceIp", "192.0.2.0/24"),
        ] {
            assert!(!is_public(&closed), "{closed}");
        }
    }

    #[test]
    fn a_policy_speaks_of_its_own_bucket() {
        let with = |resource: &str| format!(r#"{{"Statement":{{"Resource":["{resource}"]}}}}"#);
        for own in ["arn:aws:s3:::b", "arn:aws:s3:::b/*", "arn:aws:s3:::b/a/*", "*", "arn:aws:s3:::b*"] {
            assert!(check_resources(&with(own), "b").is_ok(), "{own}");
        }
        for other in ["arn:aws:s3:::other/*", "arn:aws:s3:::bb/*", "arn:aws:s3:::o*"] {
            assert!(check_resources(&with(other), "b").is_err(), "{other}");
        }
    }
}
