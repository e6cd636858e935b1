//! Policies as they are written.

use std::collections::BTreeSet;

use crate::error::PolicyError;
use crate::json::Json;
use crate::matching::Variables;
use crate::principal_element::Named;
use crate::statement::{DocumentKind, Statement};

/// A policy that was understood completely.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    kind: DocumentKind,
    statements: Vec<Statement>,
}

impl Document {
    /// Reads a policy of at most `limit` characters. White space is not counted (user guide, "IAM
    /// and AWS STS quotas"), but with it the text must not have more than [`Self::longest`] bytes.
    ///
    /// What is malformed or not supported is refused: half a policy may allow what
    /// its author forbade.
    pub fn parse(text: &str, kind: DocumentKind, limit: usize) -> Result<Self, PolicyError> {
        if text.len() > Self::longest(limit) {
            return Err(PolicyError::TooManyBytes { bytes: text.len(), limit: Self::longest(limit) });
        }
        let length = text.chars().filter(|c| !c.is_whitespace()).count();
        if length > limit {
            return Err(PolicyError::TooLong { length, limit });
        }
        let json: Json =
            serde_json::from_str(text).map_err(|error| PolicyError::NotJson(error.to_string()))?;
        let envelope = Envelope::read(&json).map_err(PolicyError::Document)?;
        let mut sids = BTreeSet::new();
        let mut statements = Vec::with_capacity(envelope.statements.len());
        for (index, json) in envelope.statements.iter().enumerate() {
            let refuse = |problem| PolicyError::Statement { number: index + 1, problem };
            let (sid, statement) = Statement::parse(json, kind, envelope.variables).map_err(refuse)?;
            if !sid.is_empty() && !sids.insert(sid) {
                return Err(refuse(format!(
                    "The Sid \"{sid}\" is used twice; it must be unique within the policy."
                )));
            }
            statements.push(statement);
        }
        Ok(Self { kind, statements })
    }

    /// Most bytes of a policy of `limit` characters. Indented policies of tools have about as much
    /// white space as other text; four times is room for any of them, and leaves nothing to hide
    /// behind a limit that does not count it.
    pub fn longest(limit: usize) -> usize {
        limit.saturating_mul(4)
    }

    /// What it was parsed as.
    pub fn kind(&self) -> DocumentKind {
        self.kind
    }

    /// Ties the users and roles that it names to their unique ids, so that it does not speak of
    /// others who get the names later (user guide, "AWS JSON policy elements: Principal"). `id_of`
    /// knows those that there are.
    pub fn bind_principals(&mut self, mut id_of: impl FnMut(&str) -> Option<String>) {
        for named in self.statements.iter_mut().flat_map(Statement::principals_mut) {
            if let Named::Arn { arn, id } = named {
                *id = id_of(arn);
            }
        }
    }

    pub(crate) fn statements(&self) -> &[Statement] {
        &self.statements
    }
}

/// What is around the statements.
struct Envelope<'a> {
    variables: Variables,
    statements: &'a [Json],
}

impl<'a> Envelope<'a> {
    fn read(json: &'a Json) -> Result<Self, String> {
        let Json::Object(members) = json else {
            return Err(format!("A policy must be a JSON object, not {}.", json.noun()));
        };
        // Without a Version it is the old one (user guide, "IAM JSON policy elements: Version").
        let mut variables = Variables::Plain;
        let mut statements: &[Json] = &[];
        for (name, value) in members {
            match (name.as_str(), value) {
                ("Version", Json::Text(version)) if version == "2012-10-17" => variables = Variables::Special,
                ("Version", Json::Text(version)) if version == "2008-10-17" => {}
                ("Version", _) => {
                    return Err("Version must be \"2012-10-17\" or \"2008-10-17\".".to_owned());
                }
                ("Id", Json::Text(_)) => {}
                ("Id", other) => return Err(format!("Id must be a string, not {}.", other.noun())),
                ("Statement", value) => statements = value.one_or_many(),
                (other, _) => {
                    return Err(format!(
                        "A policy has no element \"{other}\"; its elements are Version, Id and Statement."
                    ));
                }
            }
        }
        if statements.is_empty() {
            return Err("A policy must have a Statement: an object, or a list of at least one.".to_owned());
        }
        Ok(Self { variables, statements })
    }
}
