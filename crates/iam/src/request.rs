//! What is asked for, by whom, and under which circumstances.

use std::collections::BTreeMap;

use crate::principal::Principal;

/// Lower case, character by character.
pub(crate) fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// One action on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    principal: Principal,
    action: String,
    action_in_lower_case: String,
    resource: String,
    context: Context,
}

impl Request {
    /// `action` such as `lambda:RunMicrovm`; `resource` is an ARN, or `*` for an action that has
    /// none. The keys that follow from the principal, such as `aws:username`, are set; tags and all
    /// others are the caller's to add.
    pub fn new(principal: Principal, action: impl Into<String>, resource: impl Into<String>) -> Self {
        let mut context = Context::default();
        for (key, value) in principal.context_keys() {
            context.set(key, [value]);
        }
        let action = action.into();
        let action_in_lower_case = lower(&action);
        Self { principal, action, action_in_lower_case, resource: resource.into(), context }
    }

    /// Sets the values of a condition key; without values the key is absent. Upper and lower
    /// case of keys are equal.
    pub fn with<V: Into<String>>(mut self, key: &str, values: impl IntoIterator<Item = V>) -> Self {
        self.context.set(key, values);
        self
    }

    /// Sets the condition keys of tags that the request sets: `aws:RequestTag/…` and `aws:TagKeys`.
    pub fn with_request_tags<'a>(self, tags: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let with_value =
            |request: Self, (key, value)| request.with(&format!("aws:RequestTag/{key}"), [value]);
        let keys = tags.clone().map(|(key, _)| key);
        tags.fold(self, with_value).with("aws:TagKeys", keys)
    }

    /// Sets the condition keys of tags that the resource has: `aws:ResourceTag/…`.
    pub fn with_resource_tags<'a>(self, tags: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        tags.into_iter()
            .fold(self, |request, (key, value)| request.with(&format!("aws:ResourceTag/{key}"), [value]))
    }

    /// Values of a condition key; none when it is absent.
    pub fn values(&self, key: &str) -> &[String] {
        self.context.values(key)
    }

    /// Who asks.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What for.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// On what.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The action as patterns are compared with it.
    pub(crate) fn action_in_lower_case(&self) -> &str {
        &self.action_in_lower_case
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }
}

/// Condition keys and their values. Keys are kept in lower case because their case does not matter
/// (user guide, "IAM JSON policy elements: Condition").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    pub(crate) fn set<V: Into<String>>(&mut self, key: &str, values: impl IntoIterator<Item = V>) {
        self.0.insert(key.to_lowercase(), values.into_iter().map(Into::into).collect());
    }

    /// Empty when the key is absent.
    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.0.get(&key.to_lowercase()).map_or(&[], Vec::as_slice)
    }
}
