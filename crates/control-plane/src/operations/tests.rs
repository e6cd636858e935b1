//! The table as a whole, and the shapes of its longest inputs.

use std::collections::BTreeSet;

use hearth_service::shape::Member;
use hearth_service::validate::{self, Manner};
use serde_json::{Value, json};

use super::create_microvm_image::SHAPE as CREATE_MICROVM_IMAGE;
use super::run_microvm::SHAPE as RUN_MICROVM;
use super::*;
use crate::rates::Rates;
use crate::shapes::is_role_arn;

#[test]
fn an_operation_is_in_the_table_once_and_its_rate_is_known() {
    let names: Vec<_> = all().map(|operation| operation.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    let throttle = Rates::default().throttle();
    let unknown = |rate: &&str| throttle.rate(rate).is_none();
    assert_eq!(all().filter_map(|operation| operation.rate).find(unknown), None);
}

fn check(value: &Value, members: &[Member]) -> Result<(), String> {
    validate::check(value.as_object().unwrap(), members, Manner::RestJson)
}

fn message(value: &Value, members: &[Member]) -> String {
    check(value, members).unwrap_err()
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
    assert!(check(&image(), CREATE_MICROVM_IMAGE).is_ok());
    assert_eq!(
        message(&json!({ "name": "bad name!", "codeArtifact": { "uri": "s3://b/k" } }), CREATE_MICROVM_IMAGE),
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
        ("hooks", json!({ "microvmHooks": { "runTimeoutInSeconds": 61 } }), "value less than or equal to 60"),
        ("logging", json!({ "disabled": {}, "cloudWatch": {} }), "exactly one of [disabled, cloudWatch]"),
        ("codeArtifact", json!({}), "exactly one of [uri]"),
        ("environmentVariables", json!({ "A B": "x" }), "'environmentVariables.key'"),
        ("tags", json!({ "a": "%" }), "'tags.a'"),
        ("kmsKeyIdentifier", json!(""), "length greater than or equal to 1"),
        ("kmsKeyIdentifier", json!("alias/"), "'kmsKeyIdentifier' failed to satisfy constraint"),
        ("kmsKeyIdentifier", json!("arn:aws:kms::000000000000:key/x"), "regular expression pattern"),
    ] {
        let message = message(&with(image(), member, value), CREATE_MICROVM_IMAGE);
        assert!(message.contains(expected), "{member}: {message}");
    }
}

#[test]
fn secrets_are_not_repeated() {
    let request = json!({ "imageIdentifier": "x", "runHookPayload": "s".repeat(4097) });
    assert_eq!(
        message(&request, RUN_MICROVM),
        "1 validation error detected: Value at 'runHookPayload' failed to satisfy constraint: Member must have \
         length less than or equal to 4096"
    );
    let request = json!({ "imageIdentifier": "x", "runHookPayload": "s".repeat(4096) });
    assert!(check(&request, RUN_MICROVM).is_ok());
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

#[test]
fn each_form_of_a_kms_key_is_one() {
    for good in [
        "1234abcd-12ab-34cd",
        "alias/app",
        "arn:aws:kms:us-east-1:000000000000:key/1234",
        "arn:aws-cn:kms:cn-north-1:000000000000:alias/a/b",
    ] {
        assert!(
            check(&with(image(), "kmsKeyIdentifier", json!(good)), CREATE_MICROVM_IMAGE).is_ok(),
            "{good}"
        );
    }
}
