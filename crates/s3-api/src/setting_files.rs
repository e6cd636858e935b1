//! Settings that can be long: each in a file of its own, read only when that setting of that bucket
//! is asked for. Their bytes count for the account.

use std::fs;
use std::io;
use std::path::PathBuf;

use hearth_iam::Document;
use serde::Deserialize;

use super::StorageError;
use super::bucket::{Bucket, BucketRecord, MAXIMUM_POLICY, Place};
use super::disk::Disk;

/// Which setting. All are kept in S3's XML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    Lifecycle,
    Cors,
    Notification,
}

impl Setting {
    fn file_name(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle.xml",
            Self::Cors => "cors.xml",
            Self::Notification => "notification.xml",
        }
    }

    /// Longest setting in bytes.
    pub(super) fn maximum_bytes(self) -> usize {
        match self {
            // 1,000 rules, which S3 takes, have some 300 KB.
            Self::Lifecycle => 320 * 1024,
            Self::Cors | Self::Notification => 64 * 1024,
        }
    }
}

impl Place {
    fn setting(&self, setting: Setting) -> PathBuf {
        self.settings().join(setting.file_name())
    }
}

impl Disk {
    /// A setting as it was kept; `None` when there is none.
    #[expect(clippy::unused_self, reason = "as all that lies on the disk is asked for")]
    pub(super) fn setting(&self, place: &Place, setting: Setting) -> Result<Option<String>, StorageError> {
        let path = place.setting(setting);
        #[cfg(test)]
        super::object_file::count_read();
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(read.map_err(StorageError::io(&path))?)),
        }
    }

    /// Replaces a setting, or removes it.
    pub(super) fn set(
        &self,
        bucket: &Bucket,
        setting: Setting,
        xml: Option<&str>,
    ) -> Result<(), StorageError> {
        let _alone = self.own_name(&bucket.name);
        self.same(bucket)?;
        match xml {
            Some(xml) => self.write_setting(&bucket.place, setting, xml)?,
            None => self.remove(bucket, &bucket.place.setting(setting))?,
        }
        self.index.changed(&bucket.name);
        Ok(())
    }

    fn write_setting(&self, place: &Place, setting: Setting, xml: &str) -> Result<(), StorageError> {
        let directory = place.settings();
        fs::create_dir_all(&directory).map_err(StorageError::io(&directory))?;
        self.write_counted(&place.owner, &place.setting(setting), xml.as_bytes())
    }
}

/// Members of `bucket.json` from when it held everything.
#[derive(Debug, Deserialize)]
pub(super) struct Inline {
    #[serde(default)]
    lifecycle: Option<String>,
    #[serde(default)]
    cors: Option<String>,
    #[serde(default)]
    notification: Option<String>,
}

impl Disk {
    /// Brings a description from an earlier version into the form of this one: what is long goes
    /// into files of its own. The quota does not matter, the bytes are there already.
    pub(super) fn renew(
        &self,
        place: &Place,
        record: &mut BucketRecord,
        inline: Inline,
    ) -> Result<(), StorageError> {
        let Inline { lifecycle, cors, notification } = inline;
        let long =
            [(Setting::Lifecycle, lifecycle), (Setting::Cors, cors), (Setting::Notification, notification)];
        let mut changed = shorten_policy(place, record)?;
        for (setting, xml) in long {
            let Some(xml) = xml else { continue };
            let directory = place.settings();
            fs::create_dir_all(&directory).map_err(StorageError::io(&directory))?;
            self.write_durably(&place.setting(setting), xml.as_bytes())?;
            changed = true;
        }
        // Last, so that a crash loses nothing.
        if changed { self.write_durably(&place.record_path(), &record.to_json()) } else { Ok(()) }
    }
}

/// White space used to cost nothing, so there may be a policy of many megabytes. What is still too
/// long without it is put aside; the bucket is closed then until its owner puts another policy.
fn shorten_policy(place: &Place, record: &mut BucketRecord) -> Result<bool, StorageError> {
    let longest = Document::longest(MAXIMUM_POLICY);
    let Some(text) = record.policy.as_ref().filter(|text| text.len() > longest) else {
        return Ok(false);
    };
    let short = without_space(text);
    if short.len() <= longest {
        record.policy = Some(short);
        return Ok(true);
    }
    let aside = place.settings().join("policy-too-long.json");
    let write = || fs::create_dir_all(place.settings()).and_then(|()| fs::write(&aside, text));
    write().map_err(StorageError::io(&aside))?;
    tracing::error!(bucket = place.name, kept = %aside.display(), "a bucket policy is too long to be followed");
    record.policy = Some(String::new());
    Ok(true)
}

/// JSON without the white space between its tokens.
fn without_space(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |character: &char| {
        let kept = in_string || !character.is_ascii_whitespace();
        match *character {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && *character == '\\' && !escaped;
        kept
    };
    json.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_space_between_tokens_goes() {
        let spaced = "{ \"a b\" :\n[ \"\\\" c \\\\\" , 1 ] }";
        assert_eq!(without_space(spaced), "{\"a b\":[\"\\\" c \\\\\",1]}");
    }
}
