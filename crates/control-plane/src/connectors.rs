//! Which network connectors may be named where.

use hearth_api::{Error, managed_connector_arn};

const INGRESS: [&str; 4] = ["HTTP_INGRESS", "ALL_INGRESS", "SHELL_INGRESS", "NO_INGRESS"];
const EGRESS: [&str; 1] = ["INTERNET_EGRESS"];

/// Ingress connectors of a microVM; HTTP_INGRESS when none is named.
pub(crate) fn ingress(region: &str, wanted: Option<Vec<String>>) -> Result<Vec<String>, Error> {
    let wanted = wanted.unwrap_or_default();
    if wanted.is_empty() {
        return Ok(vec![managed_connector_arn(region, "HTTP_INGRESS")]);
    }
    for arn in &wanted {
        check(region, arn, &INGRESS)?;
    }
    Ok(wanted)
}

/// Egress connectors of an image version or microVM; `inherited` when none is named.
pub(crate) fn egress(
    region: &str,
    wanted: Option<Vec<String>>,
    inherited: Option<&[String]>,
) -> Result<Vec<String>, Error> {
    let wanted = wanted.unwrap_or_default();
    match wanted.as_slice() {
        [] => Ok(inherited
            .filter(|list| !list.is_empty())
            .map_or_else(|| vec![managed_connector_arn(region, "INTERNET_EGRESS")], <[String]>::to_vec)),
        [arn] => {
            check(region, arn, &EGRESS)?;
            Ok(wanted)
        }
        _ => Err(Error::validation("Only one egress network connector can be provided")),
    }
}

fn check(region: &str, arn: &str, known: &[&str]) -> Result<(), Error> {
    if known.iter().any(|name| managed_connector_arn(region, name) == arn) {
        Ok(())
    } else if !arn.starts_with("arn:") || !arn.contains(":network-connector:") {
        Err(Error::validation("Malformed network connector ARN"))
    } else if arn.contains(":aws:network-connector:") {
        Err(Error::validation(format!("Unrecognized managed network connector ARN: {arn}")))
    } else {
        Err(Error::not_found(format!("Network connector not found for: {arn}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: &str = "us-east-1";

    fn arn(name: &str) -> String {
        managed_connector_arn(REGION, name)
    }

    #[test]
    fn nothing_and_an_empty_list_mean_the_default() {
        for nothing in [None, Some(vec![])] {
            assert_eq!(ingress(REGION, nothing.clone()).unwrap(), [arn("HTTP_INGRESS")]);
            assert_eq!(egress(REGION, nothing.clone(), None).unwrap(), [arn("INTERNET_EGRESS")]);
            let inherited = ["x".to_owned()];
            assert_eq!(egress(REGION, nothing, Some(&inherited)).unwrap(), inherited);
        }
    }

    #[test]
    fn only_connectors_of_the_right_direction_are_known() {
        let verdict = |name: &str| egress(REGION, Some(vec![name.to_owned()]), None).map_err(|e| e.message);
        assert!(verdict(&arn("INTERNET_EGRESS")).is_ok());
        assert!(verdict(&arn("NO_EGRESS")).unwrap_err().starts_with("Unrecognized managed"));
        assert!(verdict(&arn("HTTP_INGRESS")).unwrap_err().starts_with("Unrecognized managed"));
        assert_eq!(verdict("INTERNET_EGRESS").unwrap_err(), "Malformed network connector ARN");
        let own = "arn:aws:lambda:us-east-1:000000000000:network-connector:nc-1";
        assert!(verdict(own).unwrap_err().starts_with("Network connector not found"));
        let two = vec![arn("INTERNET_EGRESS"); 2];
        assert!(egress(REGION, Some(two), None).is_err());
        assert!(ingress(REGION, Some(vec![arn("HTTP_INGRESS"), arn("SHELL_INGRESS")])).is_ok());
    }
}
