//! One statement of a policy: what it says, and whether it applies to a request.

use crate::budget::Budget;
use crate::condition::Condition;
use crate::json::Json;
use crate::matching::{ActionPattern, Template, Variables, Wildcards};
use crate::principal_element::{Grant, Named};
use crate::request::Request;

/// What a policy is attached to; decides which elements it must and must not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// Inline and managed policies of users and roles, permissions boundaries, session
    /// policies: no Principal.
    Identity,
    /// Policies of a resource: Principal and Resource.
    Resource,
    /// Trust policies of roles: Principal, no Resource, actions of STS only.
    Trust,
}

/// What a statement does when it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// An element that has a Not… form.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Selection<T> {
    These(Vec<T>),
    AllBut(Vec<T>),
}

impl<T> Selection<T> {
    fn covers(&self, fits: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::These(entries) => entries.iter().any(fits),
            Self::AllBut(entries) => !entries.iter().any(fits),
        }
    }
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statement {
    effect: Effect,
    /// Everyone whom the policy is attached to, in an identity policy.
    principals: Option<Selection<Named>>,
    actions: Selection<ActionPattern>,
    /// The role itself, in a trust policy.
    resources: Option<Selection<Template>>,
    conditions: Vec<Condition>,
}

/// Elements of a statement (user guide, "Grammar of the IAM JSON policy language").
const ELEMENTS: [&str; 9] = [
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

impl Statement {
    /// Reads a statement and its Sid, which is empty when there is none.
    pub(crate) fn parse(
        json: &Json,
        kind: DocumentKind,
        variables: Variables,
    ) -> Result<(&str, Self), String> {
        let Json::Object(members) = json else {
            return Err(format!("A statement must be an object, not {}.", json.noun()));
        };
        if let Some((unknown, _)) = members.iter().find(|(name, _)| !ELEMENTS.contains(&name.as_str())) {
            return Err(format!(
                "A statement has no element \"{unknown}\"; its elements are {}.",
                ELEMENTS.join(", ")
            ));
        }
        let members = Members(members);
        let effect = members.effect()?;
        let statement = Self {
            effect,
            principals: members.principals(kind, effect)?,
            actions: members.actions(kind)?,
            resources: members.resources(kind, variables)?,
            conditions: match members.get("Condition") {
                Some(json) => Condition::parse_all(json, variables)?,
                None => Vec::new(),
            },
        };
        Ok((members.sid(kind)?, statement))
    }

    /// The entries of Principal or NotPrincipal.
    pub(crate) fn principals_mut(&mut self) -> &mut [Named] {
        match &mut self.principals {
            Some(Selection::These(named) | Selection::AllBut(named)) => named,
            None => &mut [],
        }
    }

    pub(crate) fn effect(&self) -> Effect {
        self.effect
    }

    /// How it applies to the request; `None` when it does not.
    pub(crate) fn applies(&self, request: &Request, budget: &Budget) -> Option<Grant> {
        let grant = match &self.principals {
            None => Grant::Full,
            Some(Selection::These(named)) => {
                named.iter().filter_map(|named| named.grant(request.principal())).max()?
            }
            Some(Selection::AllBut(named)) => {
                // Only the very principal is exempt; to name its account or its role is not enough
                // (user guide, "IAM JSON policy elements: NotPrincipal").
                let exempt = named.iter().any(|named| named.grant(request.principal()) == Some(Grant::Full));
                if exempt {
                    return None;
                }
                Grant::Full
            }
        };
        let context = request.context();
        let applies = self.actions.covers(|action| action.matches(request.action_in_lower_case(), budget))
            && self.resources.as_ref().is_none_or(|resources| {
                resources.covers(|resource| resource.matches(request.resource(), context, budget))
            })
            && self.conditions.iter().all(|condition| condition.holds(context, budget));
        applies.then_some(grant)
    }
}

/// The elements of a statement that is being read.
struct Members<'a>(&'a [(String, Json)]);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a Json> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, json)| json)
    }

    /// The element or its Not… form, read by `read`; `None` when there is neither.
    fn selection<T>(
        &self,
        name: &str,
        read: impl Fn(&Json, &str) -> Result<Vec<T>, String>,
    ) -> Result<Option<Selection<T>>, String> {
        let inverse = format!("Not{name}");
        match (self.get(name), self.get(&inverse)) {
            (None, None) => Ok(None),
            (Some(json), None) => Ok(Some(Selection::These(read(json, name)?))),
            (None, Some(json)) => Ok(Some(Selection::AllBut(read(json, &inverse)?))),
            (Some(_), Some(_)) => Err(format!("A statement must not have both {name} and {inverse}.")),
        }
    }

    /// Of identity policies. What S3 takes for the name of a statement in a bucket's
    /// policy may be a sentence.
    fn sid(&self, kind: DocumentKind) -> Result<&'a str, String> {
        match self.get("Sid") {
            None => Ok(""),
            Some(Json::Text(sid)) if kind == DocumentKind::Resource => Ok(sid),
            Some(Json::Text(sid)) if sid.bytes().all(|b| b.is_ascii_alphanumeric()) => Ok(sid),
            Some(_) => Err("Sid must be a string of letters and digits.".to_owned()),
        }
    }

    fn effect(&self) -> Result<Effect, String> {
        match self.get("Effect") {
            Some(Json::Text(effect)) if effect == "Allow" => Ok(Effect::Allow),
            Some(Json::Text(effect)) if effect == "Deny" => Ok(Effect::Deny),
            _ => Err("A statement must have an Effect of \"Allow\" or \"Deny\".".to_owned()),
        }
    }

    fn principals(&self, kind: DocumentKind, effect: Effect) -> Result<Option<Selection<Named>>, String> {
        let principals = self.selection("Principal", Named::parse_all)?;
        match (kind, &principals) {
            (DocumentKind::Identity, Some(_)) => {
                Err("A statement of an identity policy must not have a Principal; \
                                                      it applies to whom the policy is attached to."
                    .to_owned())
            }
            (DocumentKind::Resource | DocumentKind::Trust, None) => {
                Err("A statement of this policy must have a Principal, such as {\"AWS\": \"123456789012\"}."
                    .to_owned())
            }
            // It would allow everyone in the world but those (user guide, "IAM JSON policy
            // elements: NotPrincipal").
            (_, Some(Selection::AllBut(_))) if effect == Effect::Allow => Err(
                "NotPrincipal must not be used with the Effect \"Allow\"; name those allowed in Principal."
                    .to_owned(),
            ),
            (_, Some(Selection::AllBut(named))) if named.contains(&Named::Everyone) => {
                Err("NotPrincipal must not be \"*\", which leaves nobody; name those to be spared."
                    .to_owned())
            }
            _ => Ok(principals),
        }
    }

    fn actions(&self, kind: DocumentKind) -> Result<Selection<ActionPattern>, String> {
        let read = |json: &Json, name: &str| {
            json.texts(name)?.into_iter().map(|text| action(text, name, kind)).collect::<Result<Vec<_>, _>>()
        };
        self.selection("Action", read)?
            .ok_or_else(|| "A statement must have an Action or a NotAction.".to_owned())
    }

    fn resources(
        &self,
        kind: DocumentKind,
        variables: Variables,
    ) -> Result<Option<Selection<Template>>, String> {
        let read = |json: &Json, name: &str| {
            json.texts(name)?
                .into_iter()
                .map(|text| resource(text, name, variables))
                .collect::<Result<Vec<_>, _>>()
        };
        match (kind, self.selection("Resource", read)?) {
            (DocumentKind::Trust, Some(_)) => {
                Err("A statement of a trust policy must not have a Resource; it applies \
                                                   to the role that it belongs to."
                    .to_owned())
            }
            (DocumentKind::Identity | DocumentKind::Resource, None) => {
                Err("A statement must have a Resource or a NotResource.".to_owned())
            }
            (_, resources) => Ok(resources),
        }
    }
}

/// Reads `service:Action` with wildcards in the action, or `*`.
fn action(text: &str, name: &str, kind: DocumentKind) -> Result<ActionPattern, String> {
    let well_formed = text == "*"
        || text.split_once(':').is_some_and(|(service, action)| {
            let is_service =
                !service.is_empty() && service.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let is_action =
                !action.is_empty() && action.bytes().all(|b| b.is_ascii_alphanumeric() || b"*?".contains(&b));
            (is_service || text == "*:*") && is_action
        });
    if !well_formed {
        return Err(format!(
            "{name} \"{text}\" must be \"*\" or a service and an action, such as \"lambda:RunMicrovm\"; wildcards are \
             allowed in the action only."
        ));
    }
    if kind == DocumentKind::Trust && !text.to_ascii_lowercase().starts_with("sts:") {
        return Err(format!(
            "{name} \"{text}\" must be one of STS in a trust policy, such as \"sts:AssumeRole\"."
        ));
    }
    Ok(ActionPattern::new(text))
}

/// Reads an ARN with wildcards and variables, or `*`. The service is always spelled out (user
/// guide, "IAM JSON policy elements: Resource"); after a `*` at the end parts may be missing.
fn resource(text: &str, name: &str, variables: Variables) -> Result<Template, String> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let well_formed = text == "*"
        || (parts.len() >= 4
            && parts[0] == "arn"
            && !parts[1].is_empty()
            && !parts[2].is_empty()
            && parts[2].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && (parts.len() == 6 || text.ends_with('*')));
    if !well_formed {
        return Err(format!(
            "{name} \"{text}\" must be \"*\" or an ARN whose service is written out, such as \
             \"arn:aws:lambda:us-east-1:123456789012:microvm-image:*\"."
        ));
    }
    Template::parse(text, Wildcards::Special, variables)
}
