//! Condition elements.
//!
//! All conditions of a statement must hold; of the values of one, any may match. Semantics are
//! those of the user guide's pages "IAM JSON policy elements: Condition operators" and
//! "Single-valued vs. multivalued context keys".

mod comparison;
mod operator;

use crate::budget::Budget;
use crate::json::Json;
use crate::matching::Variables;
use crate::request::Context;

use comparison::Expected;
use operator::{IfMissing, Operator, Quantifier, Test};

/// One condition: a key, and what is demanded of its values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    key: String,
    demand: Demand,
}

#[derive(Debug, Clone, PartialEq)]
enum Demand {
    /// `Null`: whether the key may be, or must be, missing.
    Missing(Vec<bool>),
    Values {
        quantifier: Quantifier,
        if_missing: IfMissing,
        negated: bool,
        expected: Vec<Expected>,
    },
}

impl Condition {
    /// Reads `{"Operator": {"key": value or values, …}, …}`.
    pub(crate) fn parse_all(json: &Json, variables: Variables) -> Result<Vec<Self>, String> {
        let Json::Object(operators) = json else {
            return Err(format!("Condition must be an object of operators, not {}.", json.noun()));
        };
        let mut conditions = Vec::new();
        for (name, keys) in operators {
            let operator = Operator::parse(name)?;
            let Json::Object(keys) = keys else {
                return Err(format!(
                    "Condition {name} must be an object of keys and values, not {}.",
                    keys.noun()
                ));
            };
            for (key, values) in keys {
                conditions.push(Self::parse(name, operator, key, values, variables)?);
            }
        }
        Ok(conditions)
    }

    fn parse(
        name: &str,
        operator: Operator,
        key: &str,
        values: &Json,
        variables: Variables,
    ) -> Result<Self, String> {
        let has_prefix =
            key.split_once(':').is_some_and(|(prefix, rest)| !prefix.is_empty() && !rest.is_empty());
        if !has_prefix || key.contains(|c: char| "*?$".contains(c)) {
            return Err(format!(
                "The condition key \"{key}\" must have a prefix and a name, such as \"aws:SourceIp\", and no wildcards."
            ));
        }
        let values = texts(values, &format!("Condition {name} \"{key}\""))?;
        let demand = match operator.test {
            Test::Null => {
                Demand::Missing(values.iter().map(|v| comparison::boolean(v)).collect::<Result<_, _>>()?)
            }
            Test::Compare { comparison, negated } => Demand::Values {
                quantifier: operator.quantifier,
                if_missing: operator.if_missing,
                negated,
                expected: values
                    .iter()
                    .map(|value| Expected::parse(comparison, value, variables))
                    .collect::<Result<_, _>>()?,
            },
        };
        Ok(Self { key: key.to_owned(), demand })
    }

    /// Whether the request is as demanded.
    pub(crate) fn holds(&self, context: &Context, budget: &Budget) -> bool {
        let values = context.values(&self.key);
        // Nothing but empty strings counts as no value for `Null` and the set operators.
        let null = values.iter().all(String::is_empty);
        match &self.demand {
            Demand::Missing(wanted) => wanted.contains(&null),
            Demand::Values { quantifier, if_missing, negated, expected } => {
                if values.is_empty() && *if_missing == IfMissing::Holds {
                    return true;
                }
                let satisfies = |actual: &String| {
                    expected.iter().any(|expected| expected.matches(actual, context, budget)) != *negated
                };
                match quantifier {
                    Quantifier::ForAllValues => null || values.iter().all(satisfies),
                    Quantifier::ForAnyValue => !null && values.iter().any(satisfies),
                    // Meant for keys with one value. With several, the negated operators stay the
                    // opposite of the others, which also makes them hold for a missing key.
                    Quantifier::None if *negated => values.iter().all(satisfies),
                    Quantifier::None => values.iter().any(satisfies),
                }
            }
        }
    }
}

/// Strings, and the numbers and booleans that may stand for them.
fn texts(json: &Json, name: &str) -> Result<Vec<String>, String> {
    let values = json.one_or_many();
    if values.is_empty() {
        return Err(format!("{name} is an empty list; it must have at least one value."));
    }
    values
        .iter()
        .map(|value| match value {
            Json::Text(text) | Json::Number(text) => Ok(text.clone()),
            Json::Bool(value) => Ok(value.to_string()),
            other => Err(format!(
                "{name} must be a string, a number, a boolean or a list of them, not {}.",
                other.noun()
            )),
        })
        .collect()
}
