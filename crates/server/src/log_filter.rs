//! What the server logs.

use tracing_subscriber::EnvFilter;

/// What is logged unless HEARTH_LOG says otherwise.
const DEFAULT_LOG: &str = "info";
/// Library that is not logged whatever it says: it writes signatures and session tokens of requests
/// into its messages, and calls every refused request an error. What fails on our side is logged by
/// us.
const NEVER_LOGGED: &str = "s3s";

/// What HEARTH_LOG asks for, but for what is never logged.
pub(crate) fn from(wanted: Option<String>) -> EnvFilter {
    let wanted = wanted.unwrap_or_else(|| DEFAULT_LOG.to_owned());
    let of_others = wanted.split(',').filter(|directive| !directive.trim_start().starts_with(NEVER_LOGGED));
    let silent = format!("{NEVER_LOGGED}=off");
    let directives: Vec<&str> = of_others.chain([silent.as_str()]).collect();
    EnvFilter::try_new(directives.join(",")).unwrap_or_else(|_| format!("{DEFAULT_LOG},{silent}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_signatures_is_never_logged() {
        for wanted in [None, Some("debug"), Some("s3s=debug"), Some("info, s3s::ops=trace"), Some("=,=")] {
            let filter = from(wanted.map(str::to_owned)).to_string();
            assert!(filter.contains("s3s=off") && !filter.contains("s3s::"), "{wanted:?}: {filter}");
        }
        assert!(
            from(Some("hearth_lifecycle=debug".to_owned())).to_string().contains("hearth_lifecycle=debug")
        );
    }
}
