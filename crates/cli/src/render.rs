//! How results are shown to people.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use hearth_api::visible;

/// Shown where there is nothing.
const NO_VALUE: &str = "-";

/// A table without lines, as wide as it needs to be.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    // Trailing blanks would wrap on narrow terminals.
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Writes a line to standard output. What a terminal would obey is made visible: much of the
/// text comes from apps.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    raw_line(&visible(text))
}

/// Writes a line as it is: where the user asked for that.
pub(crate) fn raw_line(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Says something beside the output.
pub(crate) fn warn(text: &str) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "hearth: {}", visible(text));
}

/// Writes the API's JSON, indented.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    line(&format!("{value:#}"))
}

/// `12.3 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// How long ago: `12 s`, `5 min`, `3 h`, `2 d`.
pub(crate) fn age(now_seconds: f64, then_seconds: f64) -> String {
    let seconds = (now_seconds - then_seconds).max(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Seconds since 1970.
pub(crate) fn now_seconds() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1000.0
}

/// The text, or a dash.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or(NO_VALUE).to_owned()
}

/// The name at the end of an image's ARN.
pub(crate) fn image_name(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_have_no_trailing_blanks() {
        let rows = [vec!["a".to_owned(), "RUNNING".to_owned()], vec!["longer".to_owned(), "X".to_owned()]];
        let text = table(&["ID", "STATE"], rows);
        assert_eq!(text, "ID       STATE\na        RUNNING\nlonger   X");
    }

    #[test]
    fn sizes_and_ages_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(187 << 20), "187.0 MiB");
        assert_eq!(age(100.0, 41.0), "59 s");
        assert_eq!(age(7_300.0, 0.0), "2 h");
        assert_eq!(age(0.0, 5.0), "0 s", "a clock that runs ahead");
    }
}
