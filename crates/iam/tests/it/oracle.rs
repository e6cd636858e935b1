//! A second evaluator, written from the user guide without the first in view: slow, on plain
//! JSON, all by recursion.
//!
//! It takes only well-formed policies of version 2012-10-17.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hearth_iam::{Decision, PolicyType};
use serde_json::Value;

/// A request as the oracle sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) action: String,
    pub(crate) resource: String,
    /// Keys in lower case.
    pub(crate) context: BTreeMap<String, Vec<String>>,
    /// All that Principal may call the caller, services as `Service/…`.
    pub(crate) names: Vec<String>,
    /// Those that mean nobody else.
    pub(crate) exact_names: Vec<String>,
}

/// Layers in the order in which denials name them; each must allow.
pub(crate) fn decide(layers: &[(PolicyType, Vec<Value>)], asked: &Asked) -> Decision {
    let says = |effect: &str, policies: &[Value]| {
        policies
            .iter()
            .flat_map(|policy| many(&policy["Statement"]))
            .any(|s| s["Effect"] == effect && applies(s, asked))
    };
    for (kind, policies) in layers {
        if says("Deny", policies) {
            return Decision::ExplicitlyDenied(*kind);
        }
    }
    for (kind, policies) in layers {
        if !says("Allow", policies) {
            return Decision::ImplicitlyDenied(*kind);
        }
    }
    Decision::Allowed
}

fn many(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        Value::Null => vec![],
        one => vec![one],
    }
}

fn applies(statement: &Value, asked: &Asked) -> bool {
    let ctx = &asked.context;
    let action = |a: &Value| like(&text(a).to_lowercase(), &asked.action.to_lowercase());
    let resource =
        |r: &Value| substitute(&text(r), ctx, true).is_some_and(|r| like(&r, &hide(&asked.resource)));
    let any = |name: &str, test: &dyn Fn(&Value) -> bool| many(&statement[name]).into_iter().any(test);
    let element = |name: &str, test: &dyn Fn(&Value) -> bool| {
        let inverse = format!("Not{name}");
        match (statement[name].is_null(), statement[&inverse].is_null()) {
            (true, true) => true,
            (false, _) => any(name, test),
            (true, false) => !any(&inverse, test),
        }
    };
    let named = |name: &str, names: &[String]| principals(&statement[name]).iter().any(|n| names.contains(n));
    element("Action", &action)
        && element("Resource", &resource)
        && (statement["Principal"].is_null() || named("Principal", &asked.names))
        && (statement["NotPrincipal"].is_null() || !named("NotPrincipal", &asked.exact_names))
        && statement["Condition"].as_object().into_iter().flatten().all(|(operator, keys)| {
            keys.as_object().unwrap().iter().all(|(key, values)| condition(operator, key, &many(values), ctx))
        })
}

fn principals(element: &Value) -> Vec<String> {
    if element == "*" {
        return vec!["*".to_owned()];
    }
    let services = many(&element["Service"]).into_iter().map(|name| format!("Service/{}", text(name)));
    many(&element["AWS"]).into_iter().map(text).chain(services).collect()
}

type Keys = BTreeMap<String, Vec<String>>;

fn condition(operator: &str, key: &str, wanted: &[&Value], ctx: &Keys) -> bool {
    let none = vec![];
    let actual = ctx.get(&key.to_lowercase()).unwrap_or(&none);
    let empty = actual.iter().all(String::is_empty);
    if operator == "Null" {
        return wanted.iter().any(|w| (text(w).to_lowercase() == "true") == empty);
    }
    if let Some(shorter) = operator.strip_suffix("IfExists") {
        return actual.is_empty() || condition(shorter, key, wanted, ctx);
    }
    if let Some(single) = operator.strip_prefix("ForAllValues:") {
        return empty || actual.iter().all(|v| single_value(single, wanted, v, ctx));
    }
    if let Some(single) = operator.strip_prefix("ForAnyValue:") {
        return !empty && actual.iter().any(|v| single_value(single, wanted, v, ctx));
    }
    if operator.contains("Not") {
        return !condition(&operator.replace("Not", ""), key, wanted, ctx);
    }
    actual.iter().any(|v| single_value(operator, wanted, v, ctx))
}

fn single_value(operator: &str, wanted: &[&Value], actual: &str, ctx: &Keys) -> bool {
    if operator.contains("Not") {
        return !single_value(&operator.replace("Not", ""), wanted, actual, ctx);
    }
    wanted.iter().any(|w| compare(operator, &text(w), actual, ctx))
}

fn compare(operator: &str, wanted: &str, actual: &str, ctx: &Keys) -> bool {
    let hidden = hide(actual);
    match operator {
        "StringEquals" => substitute(wanted, ctx, false) == Some(hidden),
        "StringEqualsIgnoreCase" => {
            substitute(wanted, ctx, false).is_some_and(|w| w.to_lowercase() == hidden.to_lowercase())
        }
        "StringLike" => substitute(wanted, ctx, true).is_some_and(|w| like(&w, &hidden)),
        "ArnEquals" | "ArnLike" => substitute(wanted, ctx, true).is_some_and(|w| arn_like(&w, &hidden, 1)),
        "Bool" => wanted.to_lowercase() == actual.to_lowercase(),
        "IpAddress" => in_network(wanted, actual),
        _ => {
            let (order, pair) = match operator.strip_prefix("Numeric") {
                Some(order) => (order, wanted.parse::<f64>().ok().zip(actual.parse::<f64>().ok())),
                None => (operator.strip_prefix("Date").unwrap(), date(wanted).zip(date(actual))),
            };
            pair.is_some_and(|(w, a)| match order {
                "Equals" => (a - w).abs() < 1e-9,
                "LessThan" => a < w,
                "LessThanEquals" => a <= w,
                "GreaterThan" => a > w,
                "GreaterThanEquals" => a >= w,
                other => panic!("{other}"),
            })
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Makes wildcards ordinary characters.
fn hide(text: &str) -> String {
    text.replace('*', "\u{e000}").replace('?', "\u{e001}")
}

fn substitute(text: &str, ctx: &Keys, wildcards: bool) -> Option<String> {
    let keep = |text: &str| if wildcards { text.to_owned() } else { hide(text) };
    let Some((before, rest)) = text.split_once("${") else { return Some(keep(text)) };
    let (inside, after) = rest.split_once('}').unwrap();
    let value = match inside {
        "*" | "?" | "$" => inside.to_owned(),
        _ => {
            let (key, default) =
                inside.split_once(',').map_or((inside, None), |(key, default)| (key, Some(default)));
            match ctx.get(&key.to_lowercase()).map(Vec::as_slice) {
                Some([one]) => one.clone(),
                None | Some([]) => default?.trim().trim_matches('\'').to_owned(),
                Some(_) => return None,
            }
        }
    };
    Some(keep(before) + &hide(&value) + &substitute(after, ctx, wildcards)?)
}

fn like(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    let shorter = text.chars().next().map(|c| (c, &text[c.len_utf8()..]));
    match (first, shorter) {
        ('*', None) => like(rest, text),
        ('*', Some((_, tail))) => like(rest, text) || like(pattern, tail),
        ('?', Some((_, tail))) => like(rest, tail),
        (literal, Some((c, tail))) => literal == c && like(rest, tail),
        (_, None) => false,
    }
}

fn arn_like(pattern: &str, arn: &str, part: u8) -> bool {
    if part == 6 {
        return like(pattern, arn);
    }
    match (pattern.split_once(':'), arn.split_once(':')) {
        (Some((p, pattern)), Some((a, arn))) => like(p, a) && arn_like(pattern, arn, part + 1),
        _ => false,
    }
}

/// Seconds since 1970, of the few dates that the properties use.
fn date(text: &str) -> Option<f64> {
    match text {
        "2026-01-01" | "2026-01-01T00:00:00Z" => Some(1_767_225_600.0),
        "2026-01-02T00:00:00Z" => Some(1_767_312_000.0),
        seconds => seconds.parse::<u32>().ok().map(f64::from),
    }
}

fn in_network(network: &str, address: &str) -> bool {
    let bits = |text: &str| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => Some(format!("4{:032b}", u32::from(ip))),
        Ok(IpAddr::V6(ip)) => Some(format!("6{:0128b}", u128::from(ip))),
        Err(_) => None,
    };
    let (first, length) = network.split_once('/').unwrap_or((network, "999"));
    let prefix: String = bits(first).unwrap().chars().take(1 + length.parse::<usize>().unwrap()).collect();
    bits(address).is_some_and(|bits| bits.starts_with(&prefix))
}
