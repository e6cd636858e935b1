//! What the ingress connectors of a microVM let in (docs/networking.md, "Connectors").

/// Which kinds of requests an endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingress {
    /// HTTP to the app's ports: HTTP_INGRESS or ALL_INGRESS.
    pub http: bool,
    /// Shells: SHELL_INGRESS.
    pub shell: bool,
}

impl Ingress {
    /// Of a microVM that was launched with these connectors (ARNs). None at all are HTTP_INGRESS;
    /// NO_INGRESS among others counts.
    pub fn of(connectors: &[String]) -> Self {
        let has = |name: &str| connectors.iter().any(|arn| arn.rsplit(':').next() == Some(name));
        let none = has("NO_INGRESS");
        Self {
            http: !none && (connectors.is_empty() || has("HTTP_INGRESS") || has("ALL_INGRESS")),
            shell: !none && has("SHELL_INGRESS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connector_lets_in_what_its_name_says() {
        let of = |names: &[&str]| {
            let arns: Vec<String> =
                names.iter().map(|name| hearth_api::managed_connector_arn("us-east-1", name)).collect();
            let Ingress { http, shell } = Ingress::of(&arns);
            (http, shell)
        };
        assert_eq!(of(&[]), (true, false));
        assert_eq!(of(&["HTTP_INGRESS"]), (true, false));
        assert_eq!(of(&["ALL_INGRESS"]), (true, false));
        assert_eq!(of(&["SHELL_INGRESS"]), (false, true));
        assert_eq!(of(&["HTTP_INGRESS", "SHELL_INGRESS"]), (true, true));
        assert_eq!(of(&["NO_INGRESS"]), (false, false));
        assert_eq!(of(&["NO_INGRESS", "HTTP_INGRESS", "SHELL_INGRESS"]), (false, false));
    }
}
