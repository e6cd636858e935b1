//! The context of the operations as the pipeline sees it.

use hearth_api::ErrorKind;
use hearth_identity::Identities;
use hearth_service::throttle::Throttle;
use hearth_service::{Api, Asked, Code, Operation, Outcome};

use crate::access::Access;
use crate::config::Context;
use crate::operations;

impl Api for Context {
    type Access = Access;
    const SIGNING_NAME: &'static str = "lambda";
    const TITLE: &'static str = "AWS Lambda MicroVMs";
    const INVALID: Code = Code::Common(ErrorKind::Validation);

    fn operations() -> impl Iterator<Item = &'static Operation<Self>> {
        operations::all()
    }

    /// "Lambda quotas", synchronous request.
    fn maximum_body_bytes(_: Option<&'static Operation<Self>>) -> usize {
        6 * 1024 * 1024
    }

    fn identities(&self) -> &Identities {
        &self.services.identities
    }

    fn throttle(&self) -> Option<&Throttle> {
        Some(&self.throttle)
    }

    async fn enter(&self, operation: &'static Operation<Self>, asked: Asked) -> Outcome {
        self.run(operation, asked).await
    }
}
