//! Settings of pulls, and how much one account may have of builds and pulls.

use std::path::Path;

use anyhow::{Context as _, ensure};
use hearth_image_builder::{BaseImagesConfig, Proxy, PullLimits, RegistryLogin};
use url::Url;

use crate::build_config::RegistryLoginConfig;
use crate::config::Config;

/// The settings of base images.
pub(crate) fn config(config: &Config, data_dir: &Path) -> anyhow::Result<BaseImagesConfig> {
    let build = &config.build;
    for address in build.registry_mirrors.values() {
        check_mirror(address)?;
    }
    let proxy = Proxy::from_environment(|name| std::env::var(name).ok()).unwrap_or_else(|problem| {
        tracing::warn!("{problem}; images are pulled without a proxy");
        None
    });
    if let Some(proxy) = &proxy {
        tracing::info!(host = proxy.host, port = proxy.port, "images are pulled through HTTPS_PROXY");
    }
    Ok(BaseImagesConfig {
        registry_mirrors: build.registry_mirrors.clone().into_iter().collect(),
        ca_bundle: build.ca_bundle.clone(),
        allowed_registries: build.allowed_registries.clone(),
        logins: build.registry_logins.iter().map(login).collect::<anyhow::Result<_>>()?,
        proxy,
        allowed_ranges: config.network.allow_egress_to.clone(),
        limits: PullLimits { image_bytes: build.image_mib << 20, seconds: build.pull_timeout_seconds },
        account_bytes: config.quotas.base_images_mib << 20,
        free_bytes: build.minimum_free_disk_mib << 20,
        concurrent_pulls: build.concurrent_pulls,
        concurrent_pulls_per_account: per_account(config).1,
        ..BaseImagesConfig::new(
            build.mirror_table.clone(),
            build.store_tool.clone(),
            data_dir.join("base-images"),
        )
    })
}

/// How many builds and how many pulls of one account may run at the same time.
pub(crate) fn per_account(config: &Config) -> (usize, usize) {
    let (build, quotas) = (&config.build, &config.quotas);
    let builds = quotas.running_builds.unwrap_or(build.concurrent_builds);
    let several = config.accounts.iter().any(|account| *account != config.account_id);
    // Where there are several accounts, none may hold the last place of what there
    // is more than one of.
    let most = |all: usize| if several { all.saturating_sub(1).max(1) } else { all };
    (builds.min(most(build.concurrent_builds)), quotas.concurrent_pulls.min(most(build.concurrent_pulls)))
}

fn check_mirror(address: &str) -> anyhow::Result<()> {
    let text = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let url = Url::parse(&text);
    let valid = url.is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.username().is_empty()
            && matches!(url.path(), "" | "/")
    });
    ensure!(
        valid,
        "{address:?} in build.registry_mirrors is not of the form http://host:port or https://host:port"
    );
    Ok(())
}

fn login(login: &RegistryLoginConfig) -> anyhow::Result<RegistryLogin> {
    let account = login.role.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split(':').next());
    let account = account
        .filter(|account| account.len() == 12 && login.role.contains(":role/"))
        .with_context(|| format!("{:?} in build.registry_logins is not the ARN of a role", login.role))?;
    let read = RegistryLogin {
        account: account.to_owned(),
        role: login.role.clone(),
        registry: login.registry.clone(),
        username: login.username.clone(),
        password_file: login.password_file.clone(),
        token_host: login.token_host.clone(),
    };
    read.check().with_context(|| format!("the login for {} cannot be used", login.registry))?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn no_account_of_several_may_hold_the_last_place() {
        let alone = parse("[build]\nconcurrent_builds = 3\nconcurrent_pulls = 2\n");
        assert_eq!(per_account(&alone), (3, 2));
        let several =
            parse("accounts = [\"111122223333\"]\n[build]\nconcurrent_builds = 3\nconcurrent_pulls = 2\n");
        assert_eq!(per_account(&several), (2, 1));
        assert_eq!(config(&several, Path::new("/x")).unwrap().concurrent_pulls_per_account, 1);
        let one = parse("accounts = [\"111122223333\"]\n[build]\nconcurrent_builds = 1\n");
        assert_eq!(per_account(&one).0, 1, "in turn, then");
        let less = parse("[build]\nconcurrent_builds = 3\n[quotas]\nrunning_builds = 1\n");
        assert_eq!(per_account(&less).0, 1);
    }

    #[test]
    fn mirrors_and_logins_that_cannot_be_meant_are_refused_at_the_start() {
        for address in ["ftp://x", "http://", "http://u:p@x", "http://x/path", ""] {
            let text = format!("[build]\nregistry_mirrors = {{ \"docker.io\" = \"{address}\" }}\n");
            let error = config(&parse(&text), Path::new("/x")).unwrap_err();
            assert!(error.to_string().contains("registry_mirrors"), "{error}");
        }
        let login = |role: &str| {
            let text = format!(
                "[[build.registry_logins]]\nrole = \"{role}\"\nregistry = \"docker.io\"\nusername = \"u\"\n\
                 password_file = \"/nonexistent/password\"\n"
            );
            config(&parse(&text), Path::new("/x")).unwrap_err().to_string()
        };
        assert!(login("build").contains("ARN of a role"));
        assert!(login("arn:aws:iam::111122223333:role/build").contains("cannot be used"));
    }
}
