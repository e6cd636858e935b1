//! What operations are authorised on: each gets what its caller may act on.

use hearth_api::{ImageArn, ImageName, ImageVersion};
use hearth_records::{Actor, MicrovmRecord, Taggable};
use hearth_service::{Asked, Error, Operation, Outcome, Run};

use crate::config::Context;
use crate::named_connectors::{NamedConnector, Which};
use crate::watch::Watch;

/// What an operation is authorised on, with its function, which gets just that.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// Nothing in particular, `*` in policies.
    Everything(Run<Context, ()>),
    /// The server: for the root user of the first account only.
    Server(Run<Context, ()>),
    /// The image of `name`, which is to be made with `tags`.
    NewImage(Run<Context, ImageArn>),
    /// The image of `imageIdentifier`, whether or not it exists.
    Image(Run<Context, ImageArn>),
    /// The image of `imageIdentifier`, for one of its versions, whether or not that exists.
    Version(Run<Context, (ImageArn, ImageVersion)>),
    /// The image of the microVM of `microvmIdentifier`.
    Microvm(Run<Context, MicrovmRecord>),
    /// What `Resource` names, with the tags or keys of the request.
    Tagged(Run<Context, Taggable>),
    /// A network connector to be made with `Tags`.
    NewConnector(Run<Context, ()>),
    /// The image or network connector of each event: those that the caller may not see are left
    /// out.
    Events(Run<Context, Watch>),
    /// The network connector of `identifier`.
    Connector(Which, Run<Context, NamedConnector>),
}

impl Access {
    /// What policies have to allow the action on, for the documentation.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Everything(_) => "`*`",
            Self::Server(_) => "no policy: the root user of the first account",
            Self::NewImage(_) | Self::Image(_) | Self::Version(_) => "the image",
            Self::Microvm(_) => "the microVM's image",
            Self::Tagged(_) => "the image or network connector",
            Self::NewConnector(_) => "`network-connector:*`",
            Self::Events(_) => "the image or network connector of each event",
            Self::Connector(..) => "the network connector",
        }
    }
}

impl Context {
    /// Asks the policies about what the operation is authorised on, and runs it.
    pub(crate) async fn run(&self, operation: &'static Operation<Self>, asked: Asked) -> Outcome {
        let action = operation.action;
        match operation.access {
            Access::Everything(run) => {
                let permit = self.may_named(&asked, action, "*")?;
                run(self, asked.permitted(permit)?, ()).await
            }
            Access::Server(run) => {
                let permit = self.operates(&asked)?;
                run(self, asked.permitted(permit)?, ()).await
            }
            Access::NewImage(run) => {
                let arn = self.new_image(&asked);
                let permit = self.may_tag(&asked, action, &Taggable::Image(arn.clone())).await?;
                run(self, asked.permitted(permit)?, arn).await
            }
            Access::Image(run) => {
                let arn = self.image_of(&asked)?;
                let permit = self.may(&asked, action, &Taggable::Image(arn.clone())).await?;
                run(self, asked.permitted(permit)?, arn).await
            }
            Access::Version(run) => {
                let arn = self.image_of(&asked)?;
                let permit = self.may(&asked, action, &Taggable::Image(arn.clone())).await?;
                let version = version_of(&asked, &arn)?;
                run(self, asked.permitted(permit)?, (arn, version)).await
            }
            Access::Microvm(run) => {
                let record = self.microvm_of(&asked).await?;
                let permit = self.may(&asked, action, &Taggable::Image(record.image_arn.clone())).await?;
                run(self, asked.permitted(permit)?, record).await
            }
            Access::Tagged(run) => {
                let resource = self.tagged_of(&asked)?;
                let permit = self.may_tag(&asked, action, &resource).await?;
                run(self, asked.permitted(permit)?, resource).await
            }
            Access::NewConnector(run) => {
                let permit = self.may_tag(&asked, action, &self.any_connector(&asked)).await?;
                run(self, asked.permitted(permit)?, ()).await
            }
            Access::Events(run) => {
                let watch = self.watch(&asked)?;
                let permit = asked.needs_no_permission();
                run(self, asked.permitted(permit)?, watch).await
            }
            Access::Connector(which, run) => {
                let (named, permit) = self.connector_of(&asked, action, which).await?;
                run(self, asked.permitted(permit)?, named).await
            }
        }
    }
}

impl Context {
    fn new_image(&self, asked: &Asked) -> ImageArn {
        ImageArn {
            region: self.config.region.clone(),
            account: asked.caller().account.clone(),
            name: ImageName::from_stored(asked.input().required("name")),
        }
    }
}

/// `1` and `1.0` are the same here.
fn version_of(asked: &Asked, arn: &ImageArn) -> Result<ImageVersion, Error> {
    let text = asked.input().required("imageVersion");
    ImageVersion::parse(text).ok_or_else(|| crate::errors::version_not_found(arn, text))
}

/// Who asks, as the events of what follows name it.
pub(crate) fn actor(call: &Asked) -> Actor {
    Actor { principal: call.caller().author().arn, request_id: call.request_id().to_owned() }
}
