//! Logins of private registries, which the operator gives to build roles.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use hearth_api::AccountId;
use hearth_image_pull::Login;

/// Longest password in bytes; tokens of registries in clouds have some thousand.
const PASSWORD_BYTES: u64 = 64 << 10;

/// A login that builds with one role use for one registry.
#[derive(Debug, Clone)]
pub struct RegistryLogin {
    /// Account of the images.
    pub account: String,
    /// ARN of the build role.
    pub role: String,
    /// The registry as FROM names it, such as `docker.io`.
    pub registry: String,
    /// User.
    pub username: String,
    /// File with the password, readable by nobody else; read for every pull.
    pub password_file: PathBuf,
    /// Host of the token server, if it is not the registry's.
    pub token_host: Option<String>,
}

impl RegistryLogin {
    /// Whether it is for a build of this account with this role, from this registry.
    pub(crate) fn is_for(&self, account: &AccountId, role: &str, registry: &str) -> bool {
        self.account == account.as_str() && self.role == role && self.registry == registry
    }

    /// Whether it can be used now; looked at when the server starts.
    pub fn check(&self) -> io::Result<()> {
        self.read().map(|_| ())
    }

    /// The login with its password.
    pub(crate) fn read(&self) -> io::Result<Login> {
        let file = std::fs::File::open(&self.password_file)?;
        if file.metadata()?.mode() & 0o077 != 0 {
            let path = self.password_file.display();
            return Err(io::Error::other(format!("{path} must have mode 0600: others could read it")));
        }
        let mut password = String::new();
        file.take(PASSWORD_BYTES).read_to_string(&mut password)?;
        let token_host = self.token_host.clone();
        // The one registry whose token server everybody knows.
        let token_host =
            token_host.or_else(|| (self.registry == "docker.io").then(|| "auth.docker.io".into()));
        Ok(Login { username: self.username.clone(), password: password.trim().to_owned(), token_host })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_password_that_others_can_read_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let password_file = directory.path().join("password");
        std::fs::write(&password_file, "secret\n").unwrap();
        let role = "arn:aws:iam::111122223333:role/build";
        let login = RegistryLogin {
            account: "111122223333".into(),
            role: role.into(),
            registry: "docker.io".into(),
            username: "user".into(),
            password_file: password_file.clone(),
            token_host: None,
        };
        let mode =
            |mode| std::fs::set_permissions(&password_file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        assert!(login.read().unwrap_err().to_string().contains("0600"));
        mode(0o600);
        let read = login.read().unwrap();
        assert_eq!((read.password.as_str(), read.token_host.as_deref()), ("secret", Some("auth.docker.io")));
        assert!(!format!("{read:?}").contains("secret"));

        let account = AccountId::from_stored("111122223333");
        assert!(login.is_for(&account, role, "docker.io"));
        assert!(!login.is_for(&AccountId::from_stored("999999999999"), role, "docker.io"));
        assert!(!login.is_for(&account, "arn:aws:iam::111122223333:role/other", "docker.io"));
        assert!(!login.is_for(&account, role, "evil.test"));
    }
}
