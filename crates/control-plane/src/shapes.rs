//! Shapes of the requests, from the service model `lambda-microvms` 2025-09-09: one per operation,
//! with all its members, wherever they are sent.

pub(crate) mod network_connectors;

use crate::validate::{Location, Member, Pattern, Shape, Text};

const fn required(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: true, location: Location::Body }
}

const fn optional(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: false, location: Location::Body }
}

const fn path(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: true, location: Location::Path }
}

const fn query(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: false, location: Location::Query }
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
/// Key ARN, alias ARN, alias name or key id.
const KMS_KEY: Pattern = Pattern {
    expression: "(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[a-zA-Z0-9:/_-]+|alias/[a-zA-Z0-9:/_-]+|[a-zA-Z0-9-]+)",
    matches: is_kms_key,
};
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

fn is_kms_key(text: &str) -> bool {
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

const NON_BLANK: Shape = patterned(1, 2048, NO_SPACE);
const IDENTIFIER: Shape = text(1, 256);
const ROLE: Shape = patterned(20, 2048, ROLE_ARN);
const KMS_KEY_IDENTIFIER: Member = optional("kmsKeyIdentifier", &patterned(1, 2048, KMS_KEY));
const CLIENT_TOKEN: Shape = text(1, 128);
const CONNECTOR: Shape = text(1, 2048);
const BOOLEAN: Shape = Shape::Boolean;
const SIZE: Shape = Shape::Integer(i32::MIN as i64, i32::MAX as i64);
const COUNT: Shape = Shape::Integer(0, i32::MAX as i64);
const AT_LEAST_ONE: Shape = Shape::Integer(1, i32::MAX as i64);
const PORT: Shape = Shape::Integer(1, 65_535);
const NOTHING: Shape = Shape::Structure(&[]);

const IMAGE: Member = path("imageIdentifier", &IDENTIFIER);
const VERSION: Member = path("imageVersion", &NON_BLANK);
const MICROVM: Member = path("microvmIdentifier", &IDENTIFIER);
const MAX_RESULTS: Member = query("maxResults", &Shape::Integer(1, 50));
const NEXT_TOKEN: Member = query("nextToken", &Shape::Text(Text::ANY));

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

const RESOURCES: Shape = Shape::List(&Shape::Structure(&[required("minimumMemoryInMiB", &SIZE)]), 0, 1);
const CPU_CONFIGURATIONS: Shape =
    Shape::List(&Shape::Structure(&[required("architecture", &ARCHITECTURE)]), 0, usize::MAX);
const ENVIRONMENT: Shape =
    Shape::Map { key: &patterned(1, 256, NO_SPACE), value: &secret(4096), maximum: 100 };
const TAG_KEY: Shape = patterned(1, 128, TAG);
const TAGS: Shape = Shape::Map { key: &TAG_KEY, value: &patterned(0, 256, TAG), maximum: usize::MAX };

// What CreateMicrovmImage and UpdateMicrovmImage have in common.
const BASE_IMAGE_ARN: Member = required("baseImageArn", &NON_BLANK);
const BASE_IMAGE_VERSION: Member = optional("baseImageVersion", &NON_BLANK);
const BUILD_ROLE_ARN: Member = required("buildRoleArn", &ROLE);
const DESCRIPTION: Member = optional("description", &Shape::Text(Text::ANY));
const CODE_ARTIFACT: Member = required("codeArtifact", &Shape::Union(&[optional("uri", &NON_BLANK)]));
const IMAGE_LOGGING: Member = optional("logging", &LOGGING);
const IMAGE_EGRESS: Member = optional("egressNetworkConnectors", &Shape::List(&CONNECTOR, 0, 1));
const IMAGE_CPUS: Member = optional("cpuConfigurations", &CPU_CONFIGURATIONS);
const IMAGE_RESOURCES: Member = optional("resources", &RESOURCES);
const IMAGE_CAPABILITIES: Member =
    optional("additionalOsCapabilities", &Shape::List(&Shape::Enumeration(&["ALL"]), 0, usize::MAX));
const IMAGE_HOOKS: Member = optional("hooks", &HOOKS);
const IMAGE_ENVIRONMENT: Member = optional("environmentVariables", &ENVIRONMENT);
const IMAGE_CLIENT_TOKEN: Member = optional("clientToken", &CLIENT_TOKEN);

/// CreateMicrovmImage.
pub(crate) static CREATE_MICROVM_IMAGE: Shape = Shape::Structure(&[
    BASE_IMAGE_ARN,
    BASE_IMAGE_VERSION,
    BUILD_ROLE_ARN,
    DESCRIPTION,
    CODE_ARTIFACT,
    IMAGE_LOGGING,
    IMAGE_EGRESS,
    IMAGE_CPUS,
    IMAGE_RESOURCES,
    IMAGE_CAPABILITIES,
    IMAGE_HOOKS,
    IMAGE_ENVIRONMENT,
    required("name", &patterned(1, 64, NAME)),
    optional("tags", &TAGS),
    KMS_KEY_IDENTIFIER,
    IMAGE_CLIENT_TOKEN,
]);

/// UpdateMicrovmImage.
pub(crate) static UPDATE_MICROVM_IMAGE: Shape = Shape::Structure(&[
    BASE_IMAGE_ARN,
    BASE_IMAGE_VERSION,
    BUILD_ROLE_ARN,
    DESCRIPTION,
    CODE_ARTIFACT,
    IMAGE_LOGGING,
    IMAGE_EGRESS,
    IMAGE_CPUS,
    IMAGE_RESOURCES,
    IMAGE_CAPABILITIES,
    IMAGE_HOOKS,
    IMAGE_ENVIRONMENT,
    IMAGE,
    KMS_KEY_IDENTIFIER,
    IMAGE_CLIENT_TOKEN,
]);

/// UpdateMicrovmImageVersion.
pub(crate) static UPDATE_MICROVM_IMAGE_VERSION: Shape =
    Shape::Structure(&[IMAGE, VERSION, required("status", &Shape::Enumeration(&["ACTIVE", "INACTIVE"]))]);

/// Operations on an image that take nothing else: GetMicrovmImage, DeleteMicrovmImage.
pub(crate) static IMAGE_ONLY: Shape = Shape::Structure(&[IMAGE]);

/// Operations on a version that take nothing else: GetMicrovmImageVersion,
/// DeleteMicrovmImageVersion.
pub(crate) static VERSION_ONLY: Shape = Shape::Structure(&[IMAGE, VERSION]);

/// GetMicrovmImageBuild.
pub(crate) static GET_MICROVM_IMAGE_BUILD: Shape =
    Shape::Structure(&[IMAGE, VERSION, path("buildId", &NON_BLANK)]);

/// ListMicrovmImages.
pub(crate) static LIST_MICROVM_IMAGES: Shape =
    Shape::Structure(&[MAX_RESULTS, NEXT_TOKEN, query("nameFilter", &NON_BLANK)]);

/// Lists of what an image has: ListMicrovmImageVersions, ListManagedMicrovmImageVersions.
pub(crate) static LIST_OF_IMAGE: Shape = Shape::Structure(&[MAX_RESULTS, NEXT_TOKEN, IMAGE]);

/// ListManagedMicrovmImages.
pub(crate) static LIST: Shape = Shape::Structure(&[MAX_RESULTS, NEXT_TOKEN]);

/// ListMicrovmImageBuilds.
pub(crate) static LIST_MICROVM_IMAGE_BUILDS: Shape = Shape::Structure(&[
    MAX_RESULTS,
    NEXT_TOKEN,
    IMAGE,
    VERSION,
    query("architecture", &ARCHITECTURE),
    query("chipset", &Shape::Enumeration(&["GRAVITON", "INTEL"])),
    query("chipsetGeneration", &NON_BLANK),
]);

/// ListMicrovms.
pub(crate) static LIST_MICROVMS: Shape = Shape::Structure(&[
    MAX_RESULTS,
    NEXT_TOKEN,
    query("imageIdentifier", &IDENTIFIER),
    query("imageVersion", &Shape::Text(Text::ANY)),
]);

/// Operations on a microVM that take nothing else: GetMicrovm, SuspendMicrovm,
/// ResumeMicrovm, TerminateMicrovm.
pub(crate) static MICROVM_ONLY: Shape = Shape::Structure(&[MICROVM]);

/// RunMicrovm. The least idle time and the longest life are settings of the operator,
/// checked by the operation.
pub(crate) static RUN_MICROVM: Shape = Shape::Structure(&[
    optional("ingressNetworkConnectors", &Shape::List(&CONNECTOR, 0, 10)),
    optional("egressNetworkConnectors", &Shape::List(&CONNECTOR, 0, 10)),
    required("imageIdentifier", &IDENTIFIER),
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
    optional("maximumDurationInSeconds", &AT_LEAST_ONE),
    KMS_KEY_IDENTIFIER,
    optional("clientToken", &CLIENT_TOKEN),
]);

/// CreateMicrovmAuthToken.
pub(crate) static CREATE_MICROVM_AUTH_TOKEN: Shape = Shape::Structure(&[
    MICROVM,
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

/// CreateMicrovmShellAuthToken.
pub(crate) static CREATE_MICROVM_SHELL_AUTH_TOKEN: Shape =
    Shape::Structure(&[MICROVM, required("expirationInMinutes", &AT_LEAST_ONE)]);

const TAGGABLE_ARN: Pattern = Pattern {
    expression: r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|(capacity-provider|network-connector|microvm-image):[a-zA-Z0-9-_]+)",
    matches: is_taggable_arn,
};

/// Of what the pattern allows, only images and network connectors are kept here.
fn is_taggable_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "lambda", region, account, kind, name] = parts[..] else { return false };
    partition.starts_with("aws")
        && !region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && matches!(kind, "microvm-image" | "network-connector")
        && (NAME.matches)(name)
}

const RESOURCE: Member = path("Resource", &patterned(1, 10_000, TAGGABLE_ARN));

/// TagResource.
pub(crate) static TAG_RESOURCE: Shape = Shape::Structure(&[RESOURCE, required("Tags", &TAGS)]);

/// UntagResource.
pub(crate) static UNTAG_RESOURCE: Shape = Shape::Structure(&[
    RESOURCE,
    Member {
        name: "tagKeys",
        shape: &Shape::List(&TAG_KEY, 0, usize::MAX),
        required: true,
        location: Location::Query,
    },
]);

/// ListTags.
pub(crate) static LIST_TAGS: Shape = Shape::Structure(&[RESOURCE]);

#[cfg(test)]
mod tests;
