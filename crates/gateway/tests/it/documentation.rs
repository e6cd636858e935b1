//! What the documentation says of operations is what the tables have. After a change of one:
//! `HEARTH_WRITE_DOCS=1 cargo test -p hearth-gateway documentation`.

use std::fmt::Write as _;
use std::path::PathBuf;

use hearth_control_plane::Context;
use hearth_iam_api::{Iam, Sts};
use hearth_logs_api::Logs;
use hearth_quotas_api::ServiceQuotas;
use hearth_s3_api::SERVED;
use hearth_service::{Api, Effect, Operation, Protocol};

const BEGIN: &str = "<!-- begin of what crates/gateway/tests/it/documentation.rs writes -->\n";
const END: &str = "<!-- end of it -->\n";

fn page(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../docs", name].iter().collect()
}

fn table<A: Api>(resource: impl Fn(A::Access) -> &'static str) -> String {
    let mut text = format!("\n### {}\n\n| Operation | Request | Action | On | Rate | Changes |\n", A::TITLE);
    text += "|---|---|---|---|---|---|\n";
    for operation in A::operations() {
        let Operation { name, action, protocol, effect, rate, access, .. } = *operation;
        let request = match protocol {
            Protocol::RestJson(http) => format!("`{} {}`", http.verb.as_str(), http.path),
            Protocol::Json => "`X-Amz-Target`".to_owned(),
            Protocol::Query => "`Action`".to_owned(),
        };
        let action = format!("{}:{action}", A::SIGNING_NAME);
        let changes = if effect == Effect::Write { "yes" } else { "no" };
        let (resource, rate) = (resource(access), rate.unwrap_or("–"));
        writeln!(text, "| {name} | {request} | {action} | {resource} | {rate} | {changes} |").unwrap();
    }
    text
}

#[test]
fn the_page_of_operations_is_the_tables() {
    let path = page("operations.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark of the begin");
    let (_, after) = rest.split_once(END).expect("the mark of the end");
    let tables = [
        table::<Context>(hearth_control_plane::Access::resource),
        table::<Logs>(hearth_logs_api::Access::resource),
        table::<ServiceQuotas>(hearth_quotas_api::Access::resource),
        table::<Iam>(hearth_iam_api::iam::Access::resource),
        table::<Sts>(hearth_iam_api::sts::Access::resource),
    ];
    let wanted = format!("{before}{BEGIN}{}\n{END}{after}", tables.concat());
    if std::env::var_os("HEARTH_WRITE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "docs/operations.md is outdated: run with HEARTH_WRITE_DOCS=1 and look at it"
        );
    }
}

/// The operations that a section of api-compatibility.md says are served.
fn documented(section: &str) -> Vec<String> {
    let text = std::fs::read_to_string(page("api-compatibility.md")).unwrap();
    let (_, rest) = text.split_once(&format!("\n{section}\n")).expect("the section");
    let section = rest.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | yes |"));
    rows.flat_map(|(names, _)| names.split(", ").map(str::to_owned)).collect()
}

#[test]
fn what_is_said_to_be_served_is() {
    // Extensions are described elsewhere.
    let ours = |operation: &&Operation<Context>| matches!(operation.protocol, Protocol::RestJson(http) if !http.path.starts_with("/hearth/"));
    let lambda =
        ["## Operations of lambda-microvms", "## Operations of lambda-core"].map(documented).concat();
    for (mut listed, mut served) in [
        (lambda, Context::operations().filter(ours).map(|operation| operation.name).collect::<Vec<_>>()),
        (documented("### CloudWatch Logs"), Logs::operations().map(|operation| operation.name).collect()),
        (documented("## Operations of IAM"), Iam::operations().map(|operation| operation.name).collect()),
        (documented("## Operations of STS"), Sts::operations().map(|operation| operation.name).collect()),
        (documented("## Operations of S3"), SERVED.to_vec()),
    ] {
        listed.sort_unstable();
        served.sort_unstable();
        assert_eq!(listed, served);
    }
}
