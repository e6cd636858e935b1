//! The events of images, versions and builds: each record says what events tell of it.

use std::borrow::Cow;

use hearth_api::{AccountId, Timestamp};

use crate::events::{NewEvent, Origin, Resource, What};
use crate::images::{BuildRecord, ImageRecord, ImageVersionRecord};
use crate::owner::Owner;
use crate::reason::Reason;

type Text = Cow<'static, str>;

/// A record of whose changes events tell.
pub trait Told {
    /// Whose it is, and what events call it.
    fn subject(&self) -> (&AccountId, Resource);

    /// Its state: all that is told of what is new or gone.
    fn state_text(&self) -> Text;

    /// Whether it may be used, if that is another question than its state.
    fn status_text(&self) -> Option<Text> {
        None
    }

    /// Who works on it, if anybody does.
    fn owner(&self) -> Option<&Owner> {
        None
    }

    /// Why it is in its state, where that needs saying.
    fn reason(&self) -> Option<Reason> {
        None
    }

    /// The event of its being there.
    fn appeared(&self, origin: &Origin, at: Timestamp) -> NewEvent {
        event(self, (What::State, None, Some(self.state_text())), origin, at)
    }

    /// The event of its being gone.
    fn disappeared(&self, origin: &Origin, at: Timestamp) -> NewEvent {
        let event = event(self, (What::State, Some(self.state_text()), None), origin, at);
        NewEvent { reason: None, ..event }
    }

    /// The events of the change from `was` to this.
    fn changed_from(&self, was: &Self, origin: &Origin, at: Timestamp) -> Vec<NewEvent> {
        let node = |owner: Option<&Owner>| owner.map(|owner| owner.node.to_string().into());
        let members = [
            (What::State, Some(was.state_text()), Some(self.state_text())),
            (What::Status, was.status_text(), self.status_text()),
            (What::Owner, node(was.owner()), node(self.owner())),
        ];
        let changed = members.into_iter().filter(|(what, from, to)| match what {
            // A later process of the same node is another owner.
            What::Owner => was.owner() != self.owner(),
            _ => from != to,
        });
        changed.map(|change| event(self, change, origin, at)).collect()
    }
}

fn event(
    record: &(impl Told + ?Sized),
    (what, from, to): (What, Option<Text>, Option<Text>),
    origin: &Origin,
    at: Timestamp,
) -> NewEvent {
    let (account, resource) = record.subject();
    let reason = record.reason().filter(|_| what == What::State);
    NewEvent { at, account: account.clone(), resource, what, from, to, reason, origin: origin.clone() }
}

impl Told for ImageRecord {
    fn subject(&self) -> (&AccountId, Resource) {
        (&self.arn.account, Resource::Image(self.arn.clone()))
    }

    fn state_text(&self) -> Text {
        self.state.as_str().into()
    }
}

impl Told for ImageVersionRecord {
    fn subject(&self) -> (&AccountId, Resource) {
        (&self.arn.account, Resource::ImageVersion(self.arn.clone(), self.version))
    }

    fn state_text(&self) -> Text {
        self.state.as_str().into()
    }

    fn status_text(&self) -> Option<Text> {
        Some(self.status.as_str().into())
    }

    fn owner(&self) -> Option<&Owner> {
        Some(&self.owner)
    }
}

impl Told for BuildRecord {
    fn subject(&self) -> (&AccountId, Resource) {
        let resource = Resource::Build(self.arn.clone(), self.version, self.id.clone());
        (&self.arn.account, resource)
    }

    fn state_text(&self) -> Text {
        self.state.as_str().into()
    }

    fn owner(&self) -> Option<&Owner> {
        Some(&self.owner)
    }

    fn reason(&self) -> Option<Reason> {
        self.state_reason.clone().map(|why| Reason::BuildFailed { why })
    }
}
