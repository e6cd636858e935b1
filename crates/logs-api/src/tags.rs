//! Tags of groups. The older operations name the group, the newer ones its ARN.

use std::collections::BTreeMap;

use hearth_records::MissingLog;
use hearth_service::{Call, Error};

use crate::access::GroupArn;
use crate::model::{GivenTags, TagsRequest, TagsResponse};
use crate::shapes::MAXIMUM_TAGS;
use crate::{Logs, exception, invalid, missing};

impl Logs {
    pub(super) async fn list_tags_for_resource(
        &self,
        call: &Call,
        _: TagsRequest,
    ) -> Result<TagsResponse, Error> {
        self.list_tags(call, self.of_arn(call)?).await
    }

    pub(super) async fn list_tags_log_group(
        &self,
        call: &Call,
        _: TagsRequest,
    ) -> Result<TagsResponse, Error> {
        self.list_tags(call, self.of_name(call)?).await
    }

    pub(super) async fn tag_resource(&self, call: &Call, request: TagsRequest) -> Result<(), Error> {
        self.tag(call, self.of_arn(call)?, request).await
    }

    pub(super) async fn tag_log_group(&self, call: &Call, request: TagsRequest) -> Result<(), Error> {
        self.tag(call, self.of_name(call)?, request).await
    }

    pub(super) async fn untag_resource(&self, call: &Call, request: TagsRequest) -> Result<(), Error> {
        self.untag(call, self.of_arn(call)?, request.tag_keys.unwrap_or_default()).await
    }

    pub(super) async fn untag_log_group(&self, call: &Call, request: TagsRequest) -> Result<(), Error> {
        let group = self.of_name(call)?;
        match request.tags {
            Some(GivenTags::Keys(keys)) => self.untag(call, group, keys).await,
            _ => Err(no_tags()),
        }
    }

    async fn list_tags(&self, call: &Call, group: String) -> Result<TagsResponse, Error> {
        let record = self.store.log_group(&call.caller().account, &group).await?;
        Ok(TagsResponse { tags: record.ok_or_else(|| missing(MissingLog::Group))?.tags })
    }

    async fn tag(&self, call: &Call, group: String, request: TagsRequest) -> Result<(), Error> {
        let Some(GivenTags::Tags(tags)) = request.tags else { return Err(no_tags()) };
        refuse_reserved(&tags)?;
        let merge = |own: &mut BTreeMap<String, String>| {
            own.extend(tags.clone());
            if own.len() > MAXIMUM_TAGS {
                let message = format!("A resource can have no more than {MAXIMUM_TAGS} tags.");
                return Err(Error::new(exception("TooManyTagsException"), message));
            }
            Ok(())
        };
        self.change_tags(call, &group, merge).await
    }

    async fn untag(&self, call: &Call, group: String, keys: Vec<String>) -> Result<(), Error> {
        let remove = |own: &mut BTreeMap<String, String>| {
            own.retain(|key, _| !keys.contains(key));
            Ok(())
        };
        self.change_tags(call, &group, remove).await
    }

    async fn change_tags(
        &self,
        call: &Call,
        group: &str,
        change: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let account = &call.caller().account;
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

    fn of_arn(&self, call: &Call) -> Result<String, Error> {
        let arn = GroupArn::parse(call.input().required("resourceArn"));
        let group = arn.ok_or_else(|| invalid("The resourceArn is not the ARN of a log group."))?;
        self.name_of(group, &call.caller().account)
    }

    fn of_name(&self, call: &Call) -> Result<String, Error> {
        self.group_name(&call.caller().account, call.input().required("logGroupName"))
    }
}

/// Tags of another type than the operation's.
fn no_tags() -> Error {
    invalid(
        "1 validation error detected: Value null at 'tags' failed to satisfy constraint: Member must not be null",
    )
}

/// Refuses keys that only AWS may set.
pub(super) fn refuse_reserved(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    match tags.keys().find(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        Some(key) => Err(invalid(format!("The tag key '{key}' must not begin with aws:"))),
        None => Ok(()),
    }
}
