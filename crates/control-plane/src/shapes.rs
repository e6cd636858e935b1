//! What the shapes of operations have in common, from the service model `lambda-microvms`
//! 2025-09-09. The rest is with each operation.

use hearth_service::shape::{
    EMPTY, Member, Pattern, Shape, Text, optional, path, patterned, query, required, secret, text,
};

pub(crate) const NO_SPACE: Pattern = Pattern {
    expression: r"[^\s]+",
    matches: |text| !text.is_empty() && !text.chars().any(char::is_whitespace),
};
pub(crate) const NAME: Pattern = Pattern {
    expression: "[a-zA-Z0-9-_]+",
    matches: |text| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    },
};
pub(crate) const ROLE_ARN: Pattern = Pattern {
    expression: r"arn:aws[a-z\-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
    matches: is_role_arn,
};
pub(crate) const LOG_GROUP: Pattern = Pattern {
    expression: r"[a-zA-Z0-9_\-/.#]+",
    matches: |text| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/.#".contains(&b))
    },
};
pub(crate) const LOG_STREAM: Pattern =
    Pattern { expression: "[^:*]*", matches: |text| !text.contains([':', '*']) };
/// Key ARN, alias ARN, alias name or key id.
pub(crate) const KMS_KEY: Pattern = Pattern {
    expression: "(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[a-zA-Z0-9:/_-]+|alias/[a-zA-Z0-9:/_-]+|[a-zA-Z0-9-]+)",
    matches: is_kms_key,
};
pub(crate) const TAG: Pattern = Pattern {
    expression: r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)",
    matches: |text| text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c)),
};

pub(crate) fn is_role_arn(text: &str) -> bool {
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

pub(crate) fn is_kms_key(text: &str) -> bool {
    let name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":/_-".contains(&b))
    };
    let is_key_arn = |text: &str| {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, "kms", region, account, resource] = parts[..] else { return false };
        partition
            .strip_prefix("aws")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
            && !region.is_empty()
            && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && ["key/", "alias/"].iter().any(|kind| resource.strip_prefix(kind).is_some_and(name))
    };
    let is_key_id =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_key_id(text) || text.strip_prefix("alias/").is_some_and(name) || is_key_arn(text)
}

pub(crate) const NON_BLANK: Shape = patterned(1, 2048, NO_SPACE);
pub(crate) const IDENTIFIER: Shape = text(1, 256);
pub(crate) const ROLE: Shape = patterned(20, 2048, ROLE_ARN);
pub(crate) const KMS_KEY_IDENTIFIER: Member = optional("kmsKeyIdentifier", &patterned(1, 2048, KMS_KEY));
pub(crate) const CLIENT_TOKEN: Shape = text(1, 128);
pub(crate) const CONNECTOR: Shape = text(1, 2048);
pub(crate) const BOOLEAN: Shape = Shape::Boolean;
pub(crate) const SIZE: Shape = Shape::Integer(i32::MIN as i64, i32::MAX as i64);
pub(crate) const COUNT: Shape = Shape::Integer(0, i32::MAX as i64);
pub(crate) const AT_LEAST_ONE: Shape = Shape::Integer(1, i32::MAX as i64);
pub(crate) const PORT: Shape = Shape::Integer(1, 65_535);

pub(crate) const IMAGE: Member = path("imageIdentifier", &IDENTIFIER);
pub(crate) const VERSION: Member = path("imageVersion", &NON_BLANK);
pub(crate) const MICROVM: Member = path("microvmIdentifier", &IDENTIFIER);
pub(crate) const MAX_RESULTS: Member = query("maxResults", &Shape::Integer(1, 50));
pub(crate) const NEXT_TOKEN: Member = query("nextToken", &Shape::Text(Text::ANY));

pub(crate) const LOGGING: Shape = Shape::Union(&[
    optional("disabled", &EMPTY),
    optional(
        "cloudWatch",
        &Shape::Structure(&[
            optional("logGroup", &patterned(1, 512, LOG_GROUP)),
            optional("logStream", &patterned(1, 512, LOG_STREAM)),
        ]),
    ),
]);

pub(crate) const HOOK_STATE: Shape = Shape::Enumeration(&["DISABLED", "ENABLED"]);
pub(crate) const RUNTIME_TIMEOUT: Shape = Shape::Integer(1, 60);
pub(crate) const BUILD_TIMEOUT: Shape = Shape::Integer(1, 3600);
pub(crate) const HOOKS: Shape = Shape::Structure(&[
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

pub(crate) const ARCHITECTURE: Shape = Shape::Enumeration(&["ARM_64", "X86_64"]);

pub(crate) const RESOURCES: Shape =
    Shape::List(&Shape::Structure(&[required("minimumMemoryInMiB", &SIZE)]), 0, 1);
pub(crate) const CPU_CONFIGURATIONS: Shape =
    Shape::List(&Shape::Structure(&[required("architecture", &ARCHITECTURE)]), 0, usize::MAX);
pub(crate) const ENVIRONMENT: Shape =
    Shape::Map { key: &patterned(1, 256, NO_SPACE), value: &secret(4096), minimum: 0, maximum: 100 };
pub(crate) const TAG_KEY: Shape = patterned(1, 128, TAG);
pub(crate) const TAGS: Shape =
    Shape::Map { key: &TAG_KEY, value: &patterned(0, 256, TAG), minimum: 0, maximum: usize::MAX };

// What CreateMicrovmImage and UpdateMicrovmImage have in common.
pub(crate) const BASE_IMAGE_ARN: Member = required("baseImageArn", &NON_BLANK);
pub(crate) const BASE_IMAGE_VERSION: Member = optional("baseImageVersion", &NON_BLANK);
pub(crate) const BUILD_ROLE_ARN: Member = required("buildRoleArn", &ROLE);
pub(crate) const DESCRIPTION: Member = optional("description", &Shape::Text(Text::ANY));
pub(crate) const CODE_ARTIFACT: Member =
    required("codeArtifact", &Shape::Union(&[optional("uri", &NON_BLANK)]));
pub(crate) const IMAGE_LOGGING: Member = optional("logging", &LOGGING);
pub(crate) const IMAGE_EGRESS: Member = optional("egressNetworkConnectors", &Shape::List(&CONNECTOR, 0, 1));
pub(crate) const IMAGE_CPUS: Member = optional("cpuConfigurations", &CPU_CONFIGURATIONS);
pub(crate) const IMAGE_RESOURCES: Member = optional("resources", &RESOURCES);
pub(crate) const IMAGE_CAPABILITIES: Member =
    optional("additionalOsCapabilities", &Shape::List(&Shape::Enumeration(&["ALL"]), 0, usize::MAX));
pub(crate) const IMAGE_HOOKS: Member = optional("hooks", &HOOKS);
pub(crate) const IMAGE_ENVIRONMENT: Member = optional("environmentVariables", &ENVIRONMENT);
pub(crate) const IMAGE_CLIENT_TOKEN: Member = optional("clientToken", &CLIENT_TOKEN);

/// Operations on an image that take nothing else.
pub(crate) const IMAGE_ONLY: &[Member] = &[IMAGE];

/// Operations on a version that take nothing else.
pub(crate) const VERSION_ONLY: &[Member] = &[IMAGE, VERSION];

/// Operations on a microVM that take nothing else.
pub(crate) const MICROVM_ONLY: &[Member] = &[MICROVM];

/// Lists of what an image has.
pub(crate) const LIST_OF_IMAGE: &[Member] = &[MAX_RESULTS, NEXT_TOKEN, IMAGE];
