//! Shapes of the request bodies, from the service model `lambda-microvms` 2025-09-09.

pub(crate) mod network_connectors;

use crate::validate::{Member, Pattern, Shape, Text};

const fn required(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: true }
}

const fn optional(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: false }
}

const fn text(minimum: usize, maximum: usize) -> Shape {
    Shape::Text(Text { minimum, maximum, ..Text::ANY })
}

const fn patterned(minimum: usize, maximum: usize, pattern: Pattern) -> Shape {
    Shape::Text(Text { minimum, maximum, pattern: Some(pattern), sensitive: false })
}

const fn secret(maximum: usize) -> Shape {
    Shape::Text(Text { maximum, sensitive: true, ..Text::ANY })
}

const NO_SPACE: Pattern = Pattern {
    expression: r"[^\s]+",
    matches: |text| !text.is_empty() && !text.chars().any(char::is_whitespace),
};
const NAME: Pattern = Pattern {
    expression: "[a-zA-Z0-9-_]+",
    matches: |text| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    },
};
const ROLE_ARN: Pattern = Pattern {
    expression: r"arn:aws[a-z\-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
    matches: is_role_arn,
};
const LOG_GROUP: Pattern = Pattern {
    expression: r"[a-zA-Z0-9_\-/.#]+",
    matches: |text| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/.#".contains(&b))
    },
};
const LOG_STREAM: Pattern = Pattern { expression: "[^:*]*", matches: |text| !text.contains([':', '*']) };
const TAG: Pattern = Pattern {
    expression: r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)",
    matches: |text| text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c)),
};

fn is_role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, service, region, account, resource] = parts[..] else { return false };
    let name = resource.strip_prefix("role").unwrap_or("");
    arn == "arn"
        && partition
            .strip_prefix("aws")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        && service == "iam"
        && region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && !name.trim_start_matches('/').is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-/".contains(&b))
}

const NON_BLANK: Shape = patterned(1, 2048, NO_SPACE);
const ROLE: Shape = patterned(20, 2048, ROLE_ARN);
const CLIENT_TOKEN: Shape = text(1, 128);
const CONNECTOR: Shape = text(1, 2048);
const BOOLEAN: Shape = Shape::Boolean;
const SIZE: Shape = Shape::Integer(i32::MIN as i64, i32::MAX as i64);
const COUNT: Shape = Shape::Integer(0, i32::MAX as i64);
const AT_LEAST_ONE: Shape = Shape::Integer(1, i32::MAX as i64);
const PORT: Shape = Shape::Integer(1, 65_535);
const NOTHING: Shape = Shape::Structure(&[]);

const LOGGING: Shape = Shape::Union(&[
    optional("disabled", &NOTHING),
    optional(
        "cloudWatch",
        &Shape::Structure(&[
            optional("logGroup", &patterned(1, 512, LOG_GROUP)),
            optional("logStream", &patterned(1, 512, LOG_STREAM)),
        ]),
    ),
]);

const HOOK_STATE: Shape = Shape::Enumeration(&["DISABLED", "ENABLED"]);
const RUNTIME_TIMEOUT: Shape = Shape::Integer(1, 60);
const BUILD_TIMEOUT: Shape = Shape::Integer(1, 3600);
const HOOKS: Shape = Shape::Structure(&[
    optional("port", &PORT),
    optional(
        "microvmHooks",
        &Shape::Structure(&[
            optional("run", &HOOK_STATE),
            optional("runTimeoutInSeconds", &RUNTIME_TIMEOUT),
            optional("resume", &HOOK_STATE),
            optional("resumeTimeoutInSeconds", &RUNTIME_TIMEOUT),
            optional("suspend", &HOOK_STATE),
            optional("suspendTimeoutInSeconds", &RUNTIME_TIMEOUT),
            optional("terminate", &HOOK_STATE),
            optional("terminateTimeoutInSeconds", &RUNTIME_TIMEOUT),
        ]),
    ),
    optional(
        "microvmImageHooks",
        &Shape::Structure(&[
            optional("ready", &HOOK_STATE),
            optional("readyTimeoutInSeconds", &BUILD_TIMEOUT),
            optional("validate", &HOOK_STATE),
            optional("validateTimeoutInSeconds", &BUILD_TIMEOUT),
        ]),
    ),
]);

const ARCHITECTURE: Shape = Shape::Enumeration(&["ARM_64", "X86_64"]);

/// CreateMicrovmImage.
pub(crate) static CREATE_MICROVM_IMAGE: Shape = Shape::Structure(&[
    required("baseImageArn", &NON_BLANK),
    optional("baseImageVersion", &NON_BLANK),
    required("buildRoleArn", &ROLE),
    optional("description", &Shape::Text(Text::ANY)),
    required("codeArtifact", &Shape::Union(&[optional("uri", &NON_BLANK)])),
    optional("logging", &LOGGING),
    optional("egressNetworkConnectors", &Shape::List(&CONNECTOR, 0, 1)),
    optional(
        "cpuConfigurations",
        &Shape::List(&Shape::Structure(&[required("architecture", &ARCHITECTURE)]), 0, usize::MAX),
    ),
    optional("resources", &Shape::List(&Shape::Structure(&[required("minimumMemoryInMiB", &SIZE)]), 0, 1)),
    optional("additionalOsCapabilities", &Shape::List(&Shape::Enumeration(&["ALL"]), 0, usize::MAX)),
    optional("hooks", &HOOKS),
    optional(
        "environmentVariables",
        &Shape::Map { key: &patterned(1, 256, NO_SPACE), value: &secret(4096), maximum: 100 },
    ),
    required("name", &patterned(1, 64, NAME)),
    optional(
        "tags",
        &Shape::Map { key: &patterned(1, 128, TAG), value: &patterned(0, 256, TAG), maximum: usize::MAX },
    ),
    optional("clientToken", &CLIENT_TOKEN),
]);

/// RunMicrovm. The least idle time is an operator's setting, checked by the operation.
pub(crate) static RUN_MICROVM: Shape = Shape::Structure(&[
    optional("ingressNetworkConnectors", &Shape::List(&CONNECTOR, 0, 10)),
    optional("egressNetworkConnectors", &Shape::List(&CONNECTOR, 0, 10)),
    required("imageIdentifier", &text(1, 256)),
    optional("imageVersion", &NON_BLANK),
    optional("executionRoleArn", &ROLE),
    optional(
        "idlePolicy",
        &Shape::Structure(&[
            required("maxIdleDurationSeconds", &COUNT),
            required("suspendedDurationSeconds", &COUNT),
            required("autoResumeEnabled", &BOOLEAN),
        ]),
    ),
    optional("logging", &LOGGING),
    optional("runHookPayload", &secret(4096)),
    optional("maximumDurationInSeconds", &Shape::Integer(1, 28_800)),
    optional("clientToken", &CLIENT_TOKEN),
]);

/// CreateMicrovmAuthToken.
pub(crate) static CREATE_MICROVM_AUTH_TOKEN: Shape = Shape::Structure(&[
    required("expirationInMinutes", &AT_LEAST_ONE),
    required(
        "allowedPorts",
        &Shape::List(
            &Shape::Union(&[
                optional("port", &PORT),
                optional(
                    "range",
                    &Shape::Structure(&[required("startPort", &PORT), required("endPort", &PORT)]),
                ),
                optional("allPorts", &NOTHING),
            ]),
            1,
            usize::MAX,
        ),
    ),
]);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::validate::check;

    fn message(value: &Value, shape: &Shape) -> String {
        check(value, shape).unwrap_err().message
    }

    fn image() -> Value {
        json!({
            "name": "app",
            "baseImageArn": "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
            "buildRoleArn": "arn:aws:iam::000000000000:role/build",
            "codeArtifact": { "uri": "s3://b/k" },
        })
    }

    fn with(mut value: Value, member: &str, new: Value) -> Value {
        value[member] = new;
        value
    }

    #[test]
    fn missing_members_are_all_named_in_one_sentence() {
        assert!(check(&image(), &CREATE_MICROVM_IMAGE).is_ok());
        assert_eq!(
            message(
                &json!({ "name": "bad name!", "codeArtifact": { "uri": "s3://b/k" } }),
                &CREATE_MICROVM_IMAGE
            ),
            "3 validation errors detected: Value null at 'baseImageArn' failed to satisfy constraint: Member must \
             not be null; Value null at 'buildRoleArn' failed to satisfy constraint: Member must not be null; Value \
             'bad name!' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: \
             [a-zA-Z0-9-_]+"
        );
    }

    #[test]
    fn limits_and_types_are_checked_at_their_place() {
        for (member, value, expected) in [
            ("buildRoleArn", json!("arn:aws:iam::1:role/x-long-enough"), "regular expression pattern"),
            ("name", json!("n".repeat(65)), "length less than or equal to 64"),
            ("name", json!(7), "'name' failed to satisfy constraint: Member must be a string"),
            ("resources", json!([{}]), "Value null at 'resources.1.member.minimumMemoryInMiB'"),
            ("resources", json!([{ "minimumMemoryInMiB": "2048" }]), "Member must be an integer"),
            ("cpuConfigurations", json!([{ "architecture": "RISCV" }]), "enum value set: [ARM_64, X86_64]"),
            ("egressNetworkConnectors", json!(["a", "b"]), "length less than or equal to 1"),
            ("hooks", json!({ "port": 0 }), "Value '0' at 'hooks.port'"),
            (
                "hooks",
                json!({ "microvmHooks": { "runTimeoutInSeconds": 61 } }),
                "value less than or equal to 60",
            ),
            ("logging", json!({ "disabled": {}, "cloudWatch": {} }), "exactly one of [disabled, cloudWatch]"),
            ("codeArtifact", json!({}), "exactly one of [uri]"),
            ("environmentVariables", json!({ "A B": "x" }), "'environmentVariables.key'"),
            ("tags", json!({ "a": "%" }), "'tags.a'"),
        ] {
            let message = message(&with(image(), member, value), &CREATE_MICROVM_IMAGE);
            assert!(message.contains(expected), "{member}: {message}");
        }
        assert!(message(&json!([]), &CREATE_MICROVM_IMAGE).contains("the body"));
    }

    #[test]
    fn secrets_are_not_repeated() {
        let request = json!({ "imageIdentifier": "x", "runHookPayload": "s".repeat(4097) });
        assert_eq!(
            message(&request, &RUN_MICROVM),
            "1 validation error detected: Value at 'runHookPayload' failed to satisfy constraint: Member must have \
             length less than or equal to 4096"
        );
        let request = json!({ "imageIdentifier": "x", "runHookPayload": "s".repeat(4096) });
        assert!(check(&request, &RUN_MICROVM).is_ok());
    }

    #[test]
    fn role_arns_follow_the_pattern_of_the_model() {
        for good in ["arn:aws:iam::000000000000:role/x", "arn:aws-cn:iam::123456789012:role/path/to/x_y"] {
            assert!(is_role_arn(good), "{good}");
        }
        for bad in [
            "role",
            "arn:aws:iam::000000000000:user/x",
            "arn:aws:iam::00000000000x:role/x",
            "arn:aws:iam:us-east-1:000000000000:role/x",
            "arn:aws:iam::000000000000:role/",
            "arn:aws:iam::000000000000:role/x y",
        ] {
            assert!(!is_role_arn(bad), "{bad}");
        }
    }
}
