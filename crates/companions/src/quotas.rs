//! Service Quotas: what the operator has set, under the service's codes. Reading only.

use std::sync::Arc;

use bytes::Bytes;
use hearth_identity::{Caller, Identities};
use serde::{Deserialize, Serialize};

use crate::json::{Refusal, Text, Violations, authorize, read, to_json};

/// Prefix of `X-Amz-Target`.
pub(crate) const TARGET_PREFIX: &str = "ServiceQuotasV20190624.";

/// Codes and names of the services that have quotas here.
const LAMBDA: Service = ("lambda", "AWS Lambda");
const LOGS: Service = ("logs", "Amazon CloudWatch Logs");
const S3: Service = ("s3", "Amazon Simple Storage Service (Amazon S3)");
const SERVICES: [Service; 3] = [LAMBDA, LOGS, S3];

/// Code and name.
type Service = (&'static str, &'static str);
/// Stands for no limit: the largest value of the service model.
const UNLIMITED: f64 = 10_000_000_000.0;
const MAXIMUM_RESULTS: i64 = 100;
const CODE: Text = Text {
    minimum: 1,
    maximum: 128,
    pattern: "[a-zA-Z][a-zA-Z0-9-]{1,128}",
    allowed: |c| c.is_ascii_alphanumeric() || c == '-',
};

/// The quotas of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaValues {
    /// Baseline memory in MiB of all microVMs that have not ended.
    pub memory_mib: u64,
    /// Images.
    pub images: u32,
    /// Versions of an image.
    pub versions_per_image: u32,
    /// GiB of the disk that versions of images and layer caches take; 0 is no limit.
    pub images_gib: u64,
    /// Builds that have not ended.
    pub concurrent_builds: u32,
    /// Builds that run at the same time.
    pub running_builds: u32,
    /// Pulls of base images at the same time.
    pub concurrent_pulls: u32,
    /// MiB of disks of pulled base images.
    pub base_images_mib: u64,
    /// Network connectors.
    pub network_connectors: u32,
    /// Versions of a network connector.
    pub versions_per_network_connector: u32,
    /// Seconds that a microVM may live; 0 is no limit, here and below.
    pub maximum_duration_seconds: u32,
    /// RunMicrovm per second.
    pub run_microvm: u32,
    /// SuspendMicrovm per second.
    pub suspend_microvm: u32,
    /// ResumeMicrovm per second.
    pub resume_microvm: u32,
    /// TerminateMicrovm per second.
    pub terminate_microvm: u32,
    /// CreateMicrovmAuthToken per second.
    pub create_microvm_auth_token: u32,
    /// Log groups.
    pub log_groups: u32,
    /// Streams of all log groups together.
    pub log_streams: u32,
    /// MiB in all log groups together.
    pub log_mib: u64,
    /// StartLiveTail sessions at the same time.
    pub live_tail_sessions: u32,
    /// Buckets.
    pub s3_buckets: u32,
    /// GiB of objects, versions and unfinished uploads.
    pub s3_gib: u64,
}

/// One quota: its code, its name, its unit, and which value it is.
type Definition = (&'static str, &'static str, &'static str, fn(&QuotaValues) -> f64);

/// Codes as published ("Lambda quotas"), but for those with HEARTH in them, which are ours.
/// Operations have a rate and a burst, which are the same number here.
const DEFINITIONS: [Definition; 21] = [
    ("L-CD1C0CC4", "MicroVM memory", "Gigabytes", |values| values.memory_mib as f64 / 1024.0),
    ("L-B430C318", "MicroVM maximum duration", "Seconds", |values| limit(values.maximum_duration_seconds)),
    ("L-942E56BE", "MicroVM images", "None", |values| values.images.into()),
    ("L-F8BECE9C", "Versions per MicroVM image", "None", |values| values.versions_per_image.into()),
    ("L-HEARTHIS", "Disk of MicroVM images and their layer caches", "Gigabytes", |values| {
        limit(values.images_gib)
    }),
    ("L-72E0D058", "Concurrent MicroVM image builds", "None", |values| values.concurrent_builds.into()),
    ("L-HEARTHBR", "Running MicroVM image builds", "None", |values| values.running_builds.into()),
    ("L-HEARTHBP", "Concurrent pulls of base images", "None", |values| values.concurrent_pulls.into()),
    ("L-HEARTHBD", "Disks of pulled base images", "Megabytes", |values| values.base_images_mib as f64),
    ("L-HEARTHNC", "Network connectors", "None", |values| values.network_connectors.into()),
    ("L-HEARTHNV", "Versions per network connector", "None", |values| {
        values.versions_per_network_connector.into()
    }),
    ("L-535CA9B6", "Rate of RunMicrovm requests", "None", |values| limit(values.run_microvm)),
    ("L-91B95582", "Burst of RunMicrovm requests", "None", |values| limit(values.run_microvm)),
    ("L-90045317", "Rate of SuspendMicrovm requests", "None", |values| limit(values.suspend_microvm)),
    ("L-139F9A48", "Burst of SuspendMicrovm requests", "None", |values| limit(values.suspend_microvm)),
    ("L-118C44B3", "Rate of ResumeMicrovm requests", "None", |values| limit(values.resume_microvm)),
    ("L-25EEC0A4", "Burst of ResumeMicrovm requests", "None", |values| limit(values.resume_microvm)),
    ("L-74787B8A", "Rate of TerminateMicrovm requests", "None", |values| limit(values.terminate_microvm)),
    ("L-2CCA0501", "Burst of TerminateMicrovm requests", "None", |values| limit(values.terminate_microvm)),
    ("L-7712260B", "Rate of CreateMicrovmAuthToken requests", "None", |values| {
        limit(values.create_microvm_auth_token)
    }),
    ("L-D65D9F16", "Burst of CreateMicrovmAuthToken requests", "None", |values| {
        limit(values.create_microvm_auth_token)
    }),
];

/// Quotas of CloudWatch Logs; the codes are ours.
const LOG_DEFINITIONS: [Definition; 4] = [
    ("L-HEARTHLG", "Log groups", "None", |values| limit(values.log_groups)),
    ("L-HEARTHLS", "Log streams", "None", |values| limit(values.log_streams)),
    ("L-HEARTHLB", "Bytes stored in log groups", "Megabytes", |values| limit(values.log_mib)),
    ("L-HEARTHLT", "Concurrent Live Tail sessions", "None", |values| limit(values.live_tail_sessions)),
];

/// Quotas of S3: the first has the service's code, the second one of ours.
const S3_DEFINITIONS: [Definition; 2] = [
    ("L-DC2B2D3D", "General purpose buckets", "None", |values| limit(values.s3_buckets)),
    ("L-HEARTHSB", "Bytes of objects, versions and unfinished uploads", "Gigabytes", |values| {
        limit(values.s3_gib)
    }),
];

/// The quotas of a service.
fn definitions(service: Service) -> &'static [Definition] {
    match service {
        LOGS => &LOG_DEFINITIONS,
        S3 => &S3_DEFINITIONS,
        _ => &DEFINITIONS,
    }
}

fn limit(value: impl Into<u64>) -> f64 {
    match value.into() {
        0 => UNLIMITED,
        value => value as f64,
    }
}

/// Service Quotas.
#[derive(Debug, Clone)]
pub(crate) struct ServiceQuotas {
    identities: Arc<Identities>,
    region: String,
    applied: QuotaValues,
    defaults: QuotaValues,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    service_code: Option<String>,
    quota_code: Option<String>,
    quota_applied_at_level: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_field_names, reason = "the members of the service model")]
struct Quota {
    service_code: &'static str,
    service_name: &'static str,
    quota_arn: String,
    quota_code: &'static str,
    quota_name: &'static str,
    value: f64,
    unit: &'static str,
    adjustable: bool,
    global_quota: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota_applied_at_level: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct QuotaAnswer {
    quota: Quota,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct QuotasAnswer {
    quotas: Vec<Quota>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl ServiceQuotas {
    pub(crate) fn new(
        identities: Arc<Identities>,
        region: &str,
        applied: QuotaValues,
        defaults: QuotaValues,
    ) -> Self {
        Self { identities, region: region.to_owned(), applied, defaults }
    }

    /// Answers one call; `operation` is `X-Amz-Target` without its prefix.
    pub(crate) fn call(&self, operation: &str, body: &[u8], caller: &Caller) -> Result<Bytes, Refusal> {
        let (action, of_one, applied) = match operation {
            "GetServiceQuota" => ("servicequotas:GetServiceQuota", true, true),
            "GetAWSDefaultServiceQuota" => ("servicequotas:GetAWSDefaultServiceQuota", true, false),
            "ListServiceQuotas" => ("servicequotas:ListServiceQuotas", false, true),
            "ListAWSDefaultServiceQuotas" => ("servicequotas:ListAWSDefaultServiceQuotas", false, false),
            "ListServices" => {
                authorize(&self.identities, caller, "servicequotas:ListServices", "*")?;
                let shown =
                    |(code, name): &Service| serde_json::json!({ "ServiceCode": code, "ServiceName": name });
                let services: Vec<_> = SERVICES.iter().map(shown).collect();
                return Ok(to_json(&serde_json::json!({ "Services": services })));
            }
            other => {
                return Err(Refusal::new(
                    "UnknownOperationException",
                    format!("The operation {other} of Service Quotas is not served here."),
                ));
            }
        };
        let request: Request = read(body)?;
        let account = caller.account.as_str();
        let code = request.quota_code.clone().unwrap_or_default();
        let named = request.service_code.clone().unwrap_or_default();
        let resource = if of_one { self.arn(account, &named, &code) } else { "*".to_owned() };
        authorize(&self.identities, caller, action, &resource)?;
        let service = request.check(of_one)?;
        // The ARN of a default names no account.
        let (values, account) = if applied { (&self.applied, account) } else { (&self.defaults, "") };
        let mut found =
            definitions(service).iter().filter(|(own, ..)| request.quota_code.is_none() || *own == code);
        if of_one {
            let definition = found.next().ok_or_else(|| no_quota(service, &code))?;
            return Ok(to_json(&QuotaAnswer { quota: self.quota(service, definition, values, account) }));
        }
        if request.quota_applied_at_level.as_deref() == Some("RESOURCE") {
            return Ok(to_json(&QuotasAnswer { quotas: Vec::new(), next_token: None }));
        }
        let (start, limit) = request.page()?;
        let all: Vec<_> = found.map(|definition| self.quota(service, definition, values, account)).collect();
        let end = start.saturating_add(limit);
        let next_token = (end < all.len()).then(|| end.to_string());
        let quotas = all.into_iter().skip(start).take(limit).collect();
        Ok(to_json(&QuotasAnswer { quotas, next_token }))
    }

    fn quota(
        &self,
        (service_code, service_name): Service,
        (code, name, unit, value): &Definition,
        values: &QuotaValues,
        account: &str,
    ) -> Quota {
        Quota {
            service_code,
            service_name,
            quota_arn: self.arn(account, service_code, code),
            quota_code: code,
            quota_name: name,
            value: value(values),
            unit,
            // The operator's file is the only way to change one.
            adjustable: false,
            global_quota: false,
            quota_applied_at_level: (!account.is_empty()).then_some("ACCOUNT"),
        }
    }

    fn arn(&self, account: &str, service: &str, code: &str) -> String {
        format!("arn:aws:servicequotas:{}:{account}:{service}/{code}", self.region)
    }
}

impl Request {
    fn check(&self, of_one: bool) -> Result<Service, Refusal> {
        let mut violations = Violations::default();
        violations.required("serviceCode", self.service_code.as_deref(), Text { maximum: 63, ..CODE });
        if of_one {
            violations.required("quotaCode", self.quota_code.as_deref(), CODE);
        } else {
            violations.text("quotaCode", self.quota_code.as_deref(), CODE);
        }
        violations.range("maxResults", self.max_results, (1, MAXIMUM_RESULTS));
        violations.finish("IllegalArgumentException")?;
        let code = self.service_code.as_deref().unwrap_or_default();
        SERVICES.into_iter().find(|(own, _)| *own == code).ok_or_else(|| {
            Refusal::new(
                "NoSuchResourceException",
                format!("There is no service with the code '{code}' here."),
            )
        })
    }

    fn page(&self) -> Result<(usize, usize), Refusal> {
        let bad = |_| Refusal::new("InvalidPaginationTokenException", "The NextToken is not valid.");
        let start = self.next_token.as_deref().map_or(Ok(0), |token| token.parse().map_err(bad))?;
        Ok((start, self.max_results.unwrap_or(MAXIMUM_RESULTS) as usize))
    }
}

fn no_quota((service, _): Service, code: &str) -> Refusal {
    let message = format!("The service '{service}' has no quota with the code '{code}' here.");
    Refusal::new("NoSuchResourceException", message)
}
