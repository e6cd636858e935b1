//! Tables, and whether the targets are met.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::load::Round;

/// Most that a request may cost with many records, as a multiple of what it costs with [`FEW`].
const WANTED_GROWTH: f64 = 1.3;
/// Least rate, as a share of hello's.
const WANTED_SHARE: f64 = 0.5;

type Rounds<'a> = BTreeMap<&'a str, Vec<Round>>;

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

/// Medians over the rounds: rate, median and 99th percentile in µs.
fn figures(rounds: &[Round]) -> [f64; 3] {
    [
        median(rounds.iter().map(|round| round.rate)),
        median(rounds.iter().map(|round| round.quantile(0.5))),
        median(rounds.iter().map(|round| round.quantile(0.99))),
    ]
}

/// Prints everything.
pub(crate) fn print(names: &[&str], rounds: &Rounds<'_>, connections: usize, sizes: &[usize]) {
    println!(
        "\n{}, {connections} connections, load average {}",
        machine(),
        file("/proc/loadavg", |line| line)
    );
    println!("\nMedians over {} rounds; cost: microseconds of all CPUs per answer\n", rounds["hello"].len());
    println!(
        "{:<40} {:>9} {:>17} {:>8} {:>9} {:>9} {:>9} {:>8}",
        "", "answers/s", "spread", "cost", "median µs", "p99 µs", "samples", "÷ hello"
    );
    let hello = figures(&rounds["hello"])[0];
    for name in names {
        let found = &rounds[name];
        let [rate, middle, p99] = figures(found);
        let rates = || found.iter().map(|round| round.rate);
        let spread = format!("{:.0}–{:.0}", rates().fold(f64::MAX, f64::min), rates().fold(0.0, f64::max));
        let samples: usize = found.iter().map(|round| round.times_us.len()).sum();
        println!(
            "{name:<40} {rate:>9.0} {spread:>17} {:>8.1} {middle:>9.0} {p99:>9.0} {samples:>9} {:>8.2}",
            1e6 / rate,
            rate / hello
        );
    }
    print_targets(names, rounds, sizes);
}

fn print_targets(names: &[&str], rounds: &Rounds<'_>, sizes: &[usize]) {
    let [.., few, many] = sizes else { return };
    println!("\nTargets");
    let row = |name: &str, measured: f64, wanted: &str, met: bool| {
        println!("{name:<60} {measured:>8.3} {wanted:>8} {}", if met { "met" } else { "MISSED" });
    };
    let suffix = format!(", {many}");
    for name in names.iter().filter_map(|name| name.strip_suffix(&suffix)) {
        let before = &rounds[format!("{name}, {few}").as_str()];
        let after = &rounds[format!("{name}, {many}").as_str()];
        // Each round against the one of the same turn, which had the same neighbours
        // on the machine.
        let growth = |of: fn(&Round) -> f64| median(after.iter().zip(before).map(|(a, b)| of(a) / of(b)));
        let cost = growth(|round| 1.0 / round.rate);
        let p99 = growth(|round| round.quantile(0.99));
        row(&format!("{name}: cost, {many} ÷ {few}"), cost, "≤ 1.3", cost <= WANTED_GROWTH);
        row(&format!("{name}: p99, {many} ÷ {few}"), p99, "≤ 1.3", p99 <= WANTED_GROWTH);
        let share = median(after.iter().zip(&rounds["hello"]).map(|(a, hello)| a.rate / hello.rate));
        row(&format!("{name}: rate with {many} ÷ hello's"), share, "≥ 0.5", share >= WANTED_SHARE);
    }
}

fn machine() -> String {
    let cpu = file("/proc/cpuinfo", |text| {
        text.lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("", |rest| rest.trim_start_matches(['\t', ':', ' ']))
    });
    let kernel = file("/proc/sys/kernel/osrelease", str::trim);
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!("CPU {cpu}, CPUs {cpus}, kernel {kernel}")
}

fn file(path: &str, of: impl Fn(&str) -> &str) -> String {
    std::fs::read_to_string(path).map(|text| of(text.trim()).to_owned()).unwrap_or_default()
}

/// Every round's figures.
pub(crate) fn json(rounds: &Rounds<'_>) -> Value {
    let shown = |round: &Round| {
        json!({
            "rate": round.rate,
            "median_us": round.quantile(0.5),
            "p99_us": round.quantile(0.99),
            "samples": round.times_us.len(),
        })
    };
    let all = rounds.iter().map(|(name, rounds)| (*name, rounds.iter().map(shown).collect::<Vec<_>>()));
    json!({ "machine": machine(), "rounds": all.collect::<BTreeMap<_, _>>() })
}
