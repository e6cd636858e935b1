//! Whether the caller may: one question for each action that an operation takes (IAM's table "Actions, resources, and
//! condition keys for AWS Lambda"). Operations on a microVM are authorised on its image.

use hearth_api::Error;

use crate::call::Call;
use crate::config::Context;

impl Context {
    /// Refuses what the caller may not do. `action` is of `lambda:`, `resource` is an ARN, or `*` for lists.
    pub(crate) fn authorize(&self, call: &Call, action: &str, resource: &impl ToString) -> Result<(), Error> {
        let request = call.caller.request(format!("lambda:{action}"), resource.to_string());
        self.services.identities.authorize(&call.caller, &request)
    }
}
