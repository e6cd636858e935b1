//! Names of condition operators.

use super::comparison::{Comparison, Order};

/// A condition operator, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) quantifier: Quantifier,
    pub(super) if_missing: IfMissing,
    pub(super) test: Test,
}

/// The set operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantifier {
    None,
    ForAllValues,
    ForAnyValue,
}

/// What a missing key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfMissing {
    /// Whatever follows from the operator.
    Usual,
    /// `…IfExists`: the condition holds.
    Holds,
}

/// What is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Null,
    Compare { comparison: Comparison, negated: bool },
}

impl Operator {
    /// Reads a name such as `ForAnyValue:StringLikeIfExists`.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let (quantifier, rest) = if let Some(rest) = name.strip_prefix("ForAllValues:") {
            (Quantifier::ForAllValues, rest)
        } else if let Some(rest) = name.strip_prefix("ForAnyValue:") {
            (Quantifier::ForAnyValue, rest)
        } else {
            (Quantifier::None, name)
        };
        let (if_missing, base) = match rest.strip_suffix("IfExists") {
            Some(base) => (IfMissing::Holds, base),
            None => (IfMissing::Usual, rest),
        };
        let test = test(base).ok_or_else(|| {
            format!(
                "The condition operator \"{name}\" is not supported; the operators are Null, Bool and those that \
                 begin with String, Numeric, Date, Arn, IpAddress and NotIpAddress."
            )
        })?;
        if test == Test::Null && name != "Null" {
            return Err(format!("The condition operator \"{name}\" must be just \"Null\"."));
        }
        Ok(Self { quantifier, if_missing, test })
    }
}

fn test(base: &str) -> Option<Test> {
    let (comparison, negated) = match base {
        "Null" => return Some(Test::Null),
        "Bool" => (Comparison::Bool, false),
        "StringEquals" => (Comparison::Text, false),
        "StringNotEquals" => (Comparison::Text, true),
        "StringEqualsIgnoreCase" => (Comparison::TextIgnoringCase, false),
        "StringNotEqualsIgnoreCase" => (Comparison::TextIgnoringCase, true),
        "StringLike" => (Comparison::TextWithWildcards, false),
        "StringNotLike" => (Comparison::TextWithWildcards, true),
        // The same: "The ArnEquals and ArnLike condition operators behave identically."
        "ArnEquals" | "ArnLike" => (Comparison::Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (Comparison::Arn, true),
        "IpAddress" => (Comparison::IpAddress, false),
        "NotIpAddress" => (Comparison::IpAddress, true),
        _ => {
            if let Some((order, negated)) = base.strip_prefix("Numeric").and_then(order) {
                (Comparison::Numeric(order), negated)
            } else {
                let (order, negated) = order(base.strip_prefix("Date")?)?;
                (Comparison::Date(order), negated)
            }
        }
    };
    Some(Test::Compare { comparison, negated })
}

fn order(name: &str) -> Option<(Order, bool)> {
    Some(match name {
        "Equals" => (Order::Equal, false),
        "NotEquals" => (Order::Equal, true),
        "LessThan" => (Order::Less, false),
        "LessThanEquals" => (Order::LessOrEqual, false),
        "GreaterThan" => (Order::Greater, false),
        "GreaterThanEquals" => (Order::GreaterOrEqual, false),
        _ => return None,
    })
}
