//! What a microVM may reach.
//!
//! A [`Policy`] is a list of rules that allow; what none of them allows is refused. A rule names a
//! domain, exactly or with all that is below it, or a range of IPv4 addresses, and which protocol
//! and ports of it. Nothing here knows how a policy is enforced.
//!
//! Reading order: [`domain`], [`rule`], [`ranges`], [`policy`].

pub mod domain;
pub mod policy;
pub mod ranges;
pub mod rule;

pub use domain::Domain;
pub use policy::{InvalidPolicy, Policy};
pub use ranges::OpenRange;
pub use rule::{Destination, InvalidRule, Ports, Protocol, Rule, RuleText, Way};
