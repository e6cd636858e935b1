//! The table of operations.

use std::future::ready;

use hearth_identity::Identities;
use hearth_service::pages::{Page, Tokens};
use hearth_service::shape::{Member, Pattern, Shape, Text, optional, patterned, required};
use hearth_service::{
    Answer, Api, Asked, Call, Code, Effect, Error, Exception, Operation, Outcome, Protocol,
};
use serde::{Deserialize, Serialize};

use crate::ServiceQuotas;
use crate::definitions::{Definition, QuotaValues, SERVICES, Service, definitions};

const MAXIMUM_RESULTS: u32 = 100;
const NO_SUCH_RESOURCE: Exception = Exception { name: "NoSuchResourceException", status: 400 };

const CODE: Pattern = Pattern {
    expression: "[a-zA-Z][a-zA-Z0-9-]{1,128}",
    matches: |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
};
const SERVICE_CODE: Member = required("ServiceCode", &patterned(1, 63, CODE));
const QUOTA_CODE: Shape = patterned(1, 128, CODE);
const MAX_RESULTS: Member = optional("MaxResults", &Shape::Integer(1, MAXIMUM_RESULTS as i64));
const ONE: &[Member] = &[SERVICE_CODE, required("QuotaCode", &QUOTA_CODE), MAX_RESULTS];
const ALL: &[Member] = &[
    SERVICE_CODE,
    optional("QuotaCode", &QUOTA_CODE),
    MAX_RESULTS,
    optional("NextToken", &Shape::Text(Text::ANY)),
    optional("QuotaAppliedAtLevel", &Shape::Text(Text::ANY)),
];

/// Which values an operation tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Those that are set.
    Applied,
    /// Those that would be.
    Default,
}

/// What an operation tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The services.
    Services,
    /// One quota, on whose ARN it is authorised.
    One(Values),
    /// The quotas of a service.
    All(Values),
}

impl Access {
    /// What policies have to allow the action on, for the documentation.
    pub fn resource(self) -> &'static str {
        match self {
            Self::One(_) => "the quota",
            Self::Services | Self::All(_) => "`*`",
        }
    }
}

const fn operation(
    name: &'static str,
    members: &'static [Member],
    access: Access,
) -> Operation<ServiceQuotas> {
    Operation::new(name, Effect::Read, Protocol::Json, members, access)
}

static OPERATIONS: [Operation<ServiceQuotas>; 5] = [
    operation("GetServiceQuota", ONE, Access::One(Values::Applied)),
    operation("GetAWSDefaultServiceQuota", ONE, Access::One(Values::Default)),
    operation("ListServiceQuotas", ALL, Access::All(Values::Applied)),
    operation("ListAWSDefaultServiceQuotas", ALL, Access::All(Values::Default)),
    operation("ListServices", &[], Access::Services),
];

impl Api for ServiceQuotas {
    type Access = Access;
    const SIGNING_NAME: &'static str = "servicequotas";
    const TITLE: &'static str = "Service Quotas";
    const INVALID: Code = Code::Modelled(Exception { name: "IllegalArgumentException", status: 400 });

    fn operations() -> impl Iterator<Item = &'static Operation<Self>> {
        OPERATIONS.iter()
    }

    fn maximum_body_bytes(_: Option<&'static Operation<Self>>) -> usize {
        1 << 20
    }

    fn identities(&self) -> &Identities {
        &self.identities
    }

    fn enter(
        &self,
        operation: &'static Operation<Self>,
        asked: Asked,
    ) -> impl Future<Output = Outcome> + Send {
        ready(self.tell(operation, asked))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Sent {
    service_code: Option<String>,
    quota_code: Option<String>,
    quota_applied_at_level: Option<String>,
    next_token: Option<String>,
    #[serde(rename = "MaxResults")]
    _max_results: Option<i64>,
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
    fn tell(&self, operation: &Operation<Self>, asked: Asked) -> Outcome {
        let sent: Sent = asked.read()?;
        let (service, code) = (sent.service_code.as_deref(), sent.quota_code.as_deref());
        let resource = match operation.access {
            Access::One(_) => {
                let account = asked.caller().account.as_str();
                self.arn(account, service.unwrap_or_default(), code.unwrap_or_default())
            }
            Access::Services | Access::All(_) => "*".to_owned(),
        };
        let action = format!("servicequotas:{}", operation.action);
        let permit = asked.ask(&self.identities, &asked.caller().request(action, resource))?;
        let call = asked.permitted(permit)?;
        match operation.access {
            Access::Services => Ok(services()),
            Access::One(values) => self.one(&call, values, &sent),
            Access::All(values) => self.all(&call, values, &sent),
        }
    }

    fn one(&self, call: &Call, values: Values, sent: &Sent) -> Outcome {
        let (service, code) = (service(sent)?, sent.quota_code.as_deref().unwrap_or_default());
        let found = definitions(service).iter().find(|(own, ..)| *own == code);
        let definition = found.ok_or_else(|| {
            let message = format!("The service '{}' has no quota with the code '{code}' here.", service.0);
            Error::new(NO_SUCH_RESOURCE, message)
        })?;
        Ok(Answer::json(&QuotaAnswer { quota: self.quota(service, definition, call, values) }))
    }

    fn all(&self, call: &Call, values: Values, sent: &Sent) -> Outcome {
        let service = service(sent)?;
        if sent.quota_applied_at_level.as_deref() == Some("RESOURCE") {
            return Ok(Answer::json(&QuotasAnswer { quotas: Vec::new(), next_token: None }));
        }
        let tokens = Tokens::new(self.page_key, call.scope(&["NextToken", "MaxResults"]));
        let limit = call.input().number("MaxResults").unwrap_or(MAXIMUM_RESULTS);
        let page = Page::new(tokens, limit, sent.next_token.as_deref()).map_err(|_| {
            let code = Exception { name: "InvalidPaginationTokenException", status: 400 };
            Error::new(code, "The NextToken is not valid.")
        })?;
        let wanted = sent.quota_code.as_deref();
        let found = definitions(service).iter().filter(|(own, ..)| wanted.is_none_or(|code| *own == code));
        let mut quotas = found.map(|definition| self.quota(service, definition, call, values)).collect();
        let next_token = page.slice(&mut quotas, |quota| quota.quota_code.to_owned());
        Ok(Answer::json(&QuotasAnswer { quotas, next_token }))
    }

    fn quota(
        &self,
        (service_code, service_name): Service,
        (code, name, unit, value): &Definition,
        call: &Call,
        values: Values,
    ) -> Quota {
        // The ARN of a default names no account.
        let (values, account): (&QuotaValues, _) = match values {
            Values::Applied => (&self.applied, call.caller().account.as_str()),
            Values::Default => (&self.defaults, ""),
        };
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

fn services() -> Answer {
    let shown = |(code, name): &Service| serde_json::json!({ "ServiceCode": code, "ServiceName": name });
    let services: Vec<_> = SERVICES.iter().map(shown).collect();
    Answer::json(&serde_json::json!({ "Services": services }))
}

fn service(sent: &Sent) -> Result<Service, Error> {
    let code = sent.service_code.as_deref().unwrap_or_default();
    SERVICES.into_iter().find(|(own, _)| *own == code).ok_or_else(|| {
        Error::new(NO_SUCH_RESOURCE, format!("There is no service with the code '{code}' here."))
    })
}
