//! Who may write to log groups that requests name: the role on whose behalf it is
//! done, or whoever asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_records::{LogActions, LogDestination, LogRights, WrittenFor};

use crate::identities::Identities;
use crate::service_role::{OnBehalf, RoleArn};

/// Name of the service's sessions of roles that write output.
const SESSION: &str = "Lambda-microvmsLogs";

/// The rights that policies give, at the time.
#[derive(Debug)]
pub struct PolicyLogRights {
    /// All principals and their policies.
    pub identities: Arc<Identities>,
    /// Region of the log groups.
    pub region: String,
}

/// The actions that writing takes, each with its resource as CloudWatch Logs names it ("Actions,
/// resources, and condition keys for Amazon CloudWatch Logs", service authorization reference).
pub fn log_questions(
    region: &str,
    destination: &LogDestination,
    actions: LogActions,
) -> Vec<(&'static str, String)> {
    let LogDestination { account, group, stream, .. } = destination;
    let resource =
        |stream: &str| format!("arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{stream}");
    let mut questions = vec![("logs:PutLogEvents", resource(stream))];
    if actions.create_stream {
        questions.push(("logs:CreateLogStream", resource("")));
    }
    if actions.create_group {
        questions.push(("logs:CreateLogGroup", resource("")));
    }
    questions
}

impl LogRights for PolicyLogRights {
    fn may_write(
        &self,
        destination: &LogDestination,
        actions: LogActions,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        for (action, resource) in log_questions(&self.region, destination, actions) {
            let (allowed, who) = match &destination.written_for {
                WrittenFor::Service => (true, String::new()),
                WrittenFor::Role(role) => {
                    let own = RoleArn::parse(role).is_some_and(|arn| *arn.account() == destination.account);
                    let (account, source) = (&destination.account, destination.image.as_str());
                    let use_of = OnBehalf { role, session: SESSION, account, source };
                    (own && self.identities.service_role_may(&use_of, action, &resource, tags), role.clone())
                }
                WrittenFor::Author(author) => {
                    let who = (author.arn.as_str(), author.id.as_deref());
                    (self.identities.principal_may(who, action, &resource, tags), author.arn.clone())
                }
                WrittenFor::Nobody => (false, "nobody known".to_owned()),
            };
            if !allowed {
                return Err(format!("it is written on behalf of {who}, which may not do {action} to it."));
            }
        }
        Ok(())
    }
}
