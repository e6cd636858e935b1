//! What is shared: kept in memory for tests, and what every keeper of it must do.

use async_trait::async_trait;
use hearth_api::AccountId;

use super::MemoryRecords;
use crate::{
    Identities, IdentityKind, IdentityRow, IdentityWrite, Result, Setting, Shared, Versioned, Versions,
};

#[async_trait]
impl Identities for MemoryRecords {
    async fn identities_version(&self) -> Result<u64> {
        Ok(self.shared().versions.identities)
    }

    async fn identities(&self) -> Result<Versioned<Vec<IdentityRow>>> {
        let shared = self.shared();
        Ok(Versioned { version: shared.versions.identities, value: shared.identities.clone() })
    }

    async fn write_identities(&self, was: u64, writes: &[IdentityWrite]) -> Result<Option<u64>> {
        let mut shared = self.shared();
        if shared.versions.identities != was {
            return Ok(None);
        }
        for write in writes {
            let (account, kind, name) = match write {
                IdentityWrite::Put(row) => (&row.account, row.kind, &row.name),
                IdentityWrite::Delete { account, kind, name } => (account, *kind, name),
            };
            let same = |row: &IdentityRow| row.account == *account && row.kind == kind && row.name == *name;
            shared.identities.retain(|row| !same(row));
            if let IdentityWrite::Put(row) = write {
                shared.identities.push(row.clone());
            }
        }
        shared.versions.identities += 1;
        Ok(Some(shared.versions.identities))
    }
}

#[async_trait]
impl Shared for MemoryRecords {
    async fn versions(&self) -> Result<Versions> {
        Ok(self.shared().versions)
    }

    async fn setting(&self, setting: Setting) -> Result<Versioned<Option<String>>> {
        let shared = self.shared();
        Ok(match setting {
            Setting::TokenKeys => {
                Versioned { version: shared.versions.token_keys, value: shared.token_keys.clone() }
            }
            Setting::Limits => Versioned { version: shared.versions.limits, value: shared.limits.clone() },
        })
    }

    async fn write_setting(&self, setting: Setting, was: u64, value: &str) -> Result<Option<u64>> {
        let mut shared = self.shared();
        let shared = &mut *shared;
        let (version, kept) = match setting {
            Setting::TokenKeys => (&mut shared.versions.token_keys, &mut shared.token_keys),
            Setting::Limits => (&mut shared.versions.limits, &mut shared.limits),
        };
        if *version != was {
            return Ok(None);
        }
        *kept = Some(value.to_owned());
        *version += 1;
        Ok(Some(*version))
    }
}

/// Runs the suite on a keeper without identities and settings.
///
/// # Panics
/// When the keeper does not do what it must.
pub async fn what_is_shared_conforms(records: &(impl Identities + Shared)) {
    let row = |name: &str| IdentityRow {
        account: AccountId::from_stored("1"),
        kind: IdentityKind::User,
        name: name.to_owned(),
        value: "{}".to_owned(),
    };
    let delete = |IdentityRow { account, kind, name, .. }| IdentityWrite::Delete { account, kind, name };
    let empty = records.identities().await.unwrap();
    assert!(empty.value.is_empty());
    let puts = [IdentityWrite::Put(row("ann")), IdentityWrite::Put(row("bob"))];
    let first = records.write_identities(empty.version, &puts).await.unwrap().unwrap();
    assert!(first > empty.version);
    // Who has not seen that changes nothing.
    let late = [delete(row("ann"))];
    assert_eq!(records.write_identities(empty.version, &late).await.unwrap(), None);
    let found = records.identities().await.unwrap();
    assert_eq!((found.version, found.value.len()), (first, 2));
    let second = records.write_identities(first, &late).await.unwrap().unwrap();
    let found = records.identities().await.unwrap();
    assert_eq!((found.version, found.value), (second, vec![row("bob")]));
    assert_eq!(records.identities_version().await.unwrap(), second);
    assert_eq!(records.versions().await.unwrap().identities, second);

    for setting in [Setting::TokenKeys, Setting::Limits] {
        let before = records.versions().await.unwrap();
        let none = records.setting(setting).await.unwrap();
        assert_eq!(none.value, None);
        let version = records.write_setting(setting, none.version, "one").await.unwrap().unwrap();
        assert_eq!(records.write_setting(setting, none.version, "other").await.unwrap(), None);
        let kept = records.setting(setting).await.unwrap();
        assert_eq!(kept, Versioned { version, value: Some("one".to_owned()) });
        let after = records.versions().await.unwrap();
        assert_eq!(after.identities, before.identities, "each has a version of its own");
        let of = |versions: Versions| match setting {
            Setting::TokenKeys => versions.token_keys,
            Setting::Limits => versions.limits,
        };
        assert_eq!((of(before), of(after)), (none.version, version));
    }
}
