//! Which user and groups a Dockerfile's USER means, from the container's
//! `/etc/passwd` and `/etc/group`.

use crate::error::Error;

/// Whom the app runs as.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups; the first is `gid`.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// A line of `/etc/passwd` (passwd(5)).
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of `/etc/group` (group(5)).
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves `user`: empty, `name`, `uid`, `name:group` or `uid:gid`. As in Docker a number need not
/// be in the files, a name must be, and naming a group leaves out the user's other groups.
pub(crate) fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity, Error> {
    let (user, wanted_group) = user.split_once(':').unwrap_or((user, ""));
    let user = if user.is_empty() { "0" } else { user };
    let account = accounts(passwd)
        .find(|account| account.name == user)
        .or_else(|| accounts(passwd).find(|account| user.parse() == Ok(account.uid)));
    let uid = match &account {
        Some(account) => account.uid,
        None => user.parse().map_err(|_| Error::UnknownUser(user.into()))?,
    };
    let gid = if wanted_group.is_empty() {
        account.as_ref().map_or(0, |account| account.gid)
    } else {
        find_group(wanted_group, group)?
    };
    let mut ids = vec![gid];
    if let (Some(account), true) = (&account, wanted_group.is_empty()) {
        let memberships =
            groups(group).filter(|group| group.members.split(',').any(|name| name == account.name));
        for group in memberships {
            if !ids.contains(&group.gid) {
                ids.push(group.gid);
            }
        }
    }
    let home = account.map(|account| account.home).filter(|home| !home.is_empty()).unwrap_or("/");
    Ok(Identity { uid, gid, groups: ids, home: home.into() })
}

fn find_group(wanted: &str, file: &str) -> Result<u32, Error> {
    groups(file)
        .find(|group| group.name == wanted)
        .map(|group| group.gid)
        .or_else(|| wanted.parse().ok())
        .ok_or_else(|| Error::UnknownGroup(wanted.into()))
}

fn accounts(file: &str) -> impl Iterator<Item = Account<'_>> {
    file.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

fn groups(file: &str) -> impl Iterator<Item = Group<'_>> {
    file.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[name, _, gid, ref rest @ ..] = fields.as_slice() else { return None };
        Some(Group { name, gid: gid.parse().ok()?, members: rest.first().copied().unwrap_or_default() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# a comment\nweb:x:1000:1001:,,,:/home/web:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:1001:\naudio:x:29:other,web\nvideo:x:44:web,root\nbroken\n";

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        Identity { uid, gid, groups: groups.into(), home: home.into() }
    }

    #[test]
    fn every_form_of_user_is_understood() {
        let resolve = |user| resolve(user, PASSWD, GROUP).unwrap();
        assert_eq!(resolve(""), identity(0, 0, &[0, 44], "/root"));
        assert_eq!(resolve("web"), identity(1000, 1001, &[1001, 29, 44], "/home/web"));
        assert_eq!(resolve("1000"), identity(1000, 1001, &[1001, 29, 44], "/home/web"));
        assert_eq!(resolve("web:audio"), identity(1000, 29, &[29], "/home/web"));
        assert_eq!(resolve("4242"), identity(4242, 0, &[0], "/"));
        assert_eq!(resolve("4242:77"), identity(4242, 77, &[77], "/"));
    }

    #[test]
    fn unknown_names_are_named() {
        assert!(
            matches!(resolve("nobody", PASSWD, GROUP), Err(Error::UnknownUser(name)) if name == "nobody")
        );
        assert!(matches!(resolve("web:x", PASSWD, GROUP), Err(Error::UnknownGroup(name)) if name == "x"));
    }

    #[test]
    fn an_image_without_the_files_has_root_and_numbers() {
        assert_eq!(resolve("", "", "").unwrap(), identity(0, 0, &[0], "/"));
        assert_eq!(resolve("5:6", "", "").unwrap(), identity(5, 6, &[6], "/"));
    }
}
