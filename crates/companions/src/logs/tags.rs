//! Tags of groups.

use std::collections::BTreeMap;

use hearth_api::AccountId;
use hearth_records::MissingLog;

use super::access::GroupArn;
use super::model::{GivenTags, TagsRequest, TagsResponse};
use super::{Logs, invalid, missing};
use crate::json::{Refusal, Violations};

/// Of a group, of a request, and keys that one names.
pub(super) const MAXIMUM_TAGS: usize = 50;

/// Which member names the group.
#[derive(Debug, Clone, Copy)]
enum By {
    Arn,
    Name,
}

impl Logs {
    pub(super) async fn list_tags_for_resource(
        &self,
        account: &AccountId,
        request: TagsRequest,
    ) -> Result<TagsResponse, Refusal> {
        self.tags(account, &request, By::Arn).await
    }

    pub(super) async fn list_tags_log_group(
        &self,
        account: &AccountId,
        request: TagsRequest,
    ) -> Result<TagsResponse, Refusal> {
        self.tags(account, &request, By::Name).await
    }

    pub(super) async fn tag_resource(
        &self,
        account: &AccountId,
        request: TagsRequest,
    ) -> Result<(), Refusal> {
        self.tag(account, request, By::Arn).await
    }

    pub(super) async fn tag_log_group(
        &self,
        account: &AccountId,
        request: TagsRequest,
    ) -> Result<(), Refusal> {
        self.tag(account, request, By::Name).await
    }

    pub(super) async fn untag_resource(
        &self,
        account: &AccountId,
        mut request: TagsRequest,
    ) -> Result<(), Refusal> {
        let keys = request.tag_keys.take();
        self.untag(account, &request, keys, By::Arn).await
    }

    pub(super) async fn untag_log_group(
        &self,
        account: &AccountId,
        mut request: TagsRequest,
    ) -> Result<(), Refusal> {
        let keys = match request.tags.take() {
            Some(GivenTags::Keys(keys)) => Some(keys),
            _ => None,
        };
        self.untag(account, &request, keys, By::Name).await
    }

    async fn tags(
        &self,
        account: &AccountId,
        request: &TagsRequest,
        by: By,
    ) -> Result<TagsResponse, Refusal> {
        let group = self.tagged(account, request, by)?;
        let record = self.store.log_group(account, &group).await?;
        Ok(TagsResponse { tags: record.ok_or_else(|| missing(MissingLog::Group))?.tags })
    }

    async fn tag(&self, account: &AccountId, request: TagsRequest, by: By) -> Result<(), Refusal> {
        let group = self.tagged(account, &request, by)?;
        let Some(GivenTags::Tags(tags)) = request.tags else {
            let mut violations = Violations::default();
            violations.add("tags", None, "Member must not be null");
            return violations.check();
        };
        let mut violations = Violations::default();
        violations.count("tags", tags.len(), (1, MAXIMUM_TAGS));
        violations.check()?;
        check(&tags)?;
        let merge = |own: &mut BTreeMap<String, String>| {
            own.extend(tags.clone());
            if own.len() > MAXIMUM_TAGS {
                return Err(Refusal::new(
                    "TooManyTagsException",
                    format!("A resource can have no more than {MAXIMUM_TAGS} tags."),
                ));
            }
            Ok(())
        };
        self.change_tags(account, &group, merge).await
    }

    async fn untag(
        &self,
        account: &AccountId,
        request: &TagsRequest,
        keys: Option<Vec<String>>,
        by: By,
    ) -> Result<(), Refusal> {
        let group = self.tagged(account, request, by)?;
        let Some(keys) = keys else {
            let mut violations = Violations::default();
            let member = if matches!(by, By::Arn) { "tagKeys" } else { "tags" };
            violations.add(member, None, "Member must not be null");
            return violations.check();
        };
        if matches!(by, By::Arn) {
            let mut violations = Violations::default();
            violations.count("tagKeys", keys.len(), (0, MAXIMUM_TAGS));
            violations.check()?;
        }
        let remove = |own: &mut BTreeMap<String, String>| {
            own.retain(|key, _| !keys.contains(key));
            Ok(())
        };
        self.change_tags(account, &group, remove).await
    }

    async fn change_tags(
        &self,
        account: &AccountId,
        group: &str,
        change: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        loop {
            let record = self.store.log_group(account, group).await?;
            let before = record.ok_or_else(|| missing(MissingLog::Group))?.tags;
            let mut after = before.clone();
            change(&mut after)?;
            // Somebody else may have changed them meanwhile.
            if self.store.replace_log_tags(account, group, &before, &after).await? {
                return Ok(());
            }
        }
    }

    fn tagged(&self, account: &AccountId, request: &TagsRequest, by: By) -> Result<String, Refusal> {
        let mut violations = Violations::default();
        match by {
            By::Arn => {
                let arn = request.resource_arn.as_deref();
                if arn.is_none() {
                    violations.add("resourceArn", None, "Member must not be null");
                }
                violations.check()?;
                let arn = arn.and_then(GroupArn::parse);
                let group = arn.ok_or_else(|| invalid("The resourceArn is not the ARN of a log group."))?;
                if group.region != self.region || group.account != *account {
                    return Err(missing(MissingLog::Group));
                }
                Ok(group.name)
            }
            By::Name => {
                violations.group_name(request.log_group_name.as_deref());
                violations.check()?;
                self.group_name(account, request.log_group_name.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Checks the tags of a request.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    violations.count("tags", tags.len(), (0, MAXIMUM_TAGS));
    for (key, value) in tags {
        violations.tag_key(key);
        violations.tag_value(value);
    }
    violations.check()?;
    match tags.keys().find(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        Some(key) => Err(invalid(format!("The tag key '{key}' must not begin with aws:"))),
        None => Ok(()),
    }
}
