"""Statistics, the tables, and the targets of the project's second issue."""
import statistics

MIB = 1024 * 1024


def summary(values: list[float]) -> dict:
    """Median, nearest-rank 95th percentile, extremes, number."""
    ordered = sorted(values)
    rank = -(-95 * len(ordered) // 100)
    numbers = {"median": statistics.median(ordered), "p95": ordered[rank - 1], "min": ordered[0], "max": ordered[-1]}
    return {**{name: round(value, 1) for name, value in numbers.items()}, "n": len(ordered)}


def times(samples: dict) -> dict[str, dict]:
    """Each series of times in milliseconds, named as in the table."""
    floor, lives, boots = samples["floor"], samples["microvm"], samples["cold_boot"]
    series = {
        "cold boot → first 200": [boot["total"] for boot in boots],
        "  until the agent answers": [boot["agent"] for boot in boots],
        "floor → first 200": [run["total"] for run in floor],
        **{f"  {part}": [run[part] for run in floor] for part in ("spawn", "load", "cont", "first_http")},
        "RunMicrovm → first 200": [life["launch"]["total"] for life in lives],
        "  RunMicrovm answered": [life["launch"]["run"] for life in lives],
        "  CreateMicrovmAuthToken": [life["launch"]["token"] for life in lives],
        "  HTTPS GET": [life["launch"]["first_http"] for life in lives],
        "second GET": [life["second_http_ms"] for life in lives],
    }
    for key, name in (("small", "few pages changed"), ("touched_64_mib", "64 MiB changed")):
        found = [life[key] for life in lives if key in life]
        series[f"suspend → SUSPENDED, {name}"] = [one["suspend_ms"] for one in found]
        series[f"request → 200 while suspended, {name}"] = [one["resume_ms"] for one in found]
    return {name: summary(values) for name, values in series.items() if values}


def disk_rows(samples: dict) -> list[tuple]:
    """Per kind of change, medians in MiB: changed RAM, changed disk, allocated,
    allocated beyond changed."""
    rows = []
    for key, name in (("small", "few pages changed"), ("touched_64_mib", "64 MiB changed")):
        found = [life[key] for life in samples["microvm"] if key in life]
        if found:
            columns = [
                [one["changed_ram_bytes"] for one in found],
                [one["changed_disk_bytes"] for one in found],
                [one["disk_bytes"] for one in found],
                [one["disk_bytes"] - one["changed_ram_bytes"] - one["changed_disk_bytes"] for one in found],
            ]
            rows.append((name, *(statistics.median(column) / MIB for column in columns)))
    return rows


def memory_rows(samples: dict) -> list[tuple]:
    """Per number of clones, medians in MiB: private, anonymous, changed by the guest, anonymous
    beyond that, proportional, and the system's loss per clone."""
    rows = []
    for sample in samples["memory"]:
        median = lambda value: statistics.median(value(clone) for clone in sample["clones"]) / MIB
        used = (sample["available_before"] - sample["available_with"]) / sample["count"] / MIB
        rows.append((
            sample["count"],
            median(lambda clone: clone["private"]),
            median(lambda clone: clone["anonymous"]),
            median(lambda clone: clone["changed_ram"]),
            median(lambda clone: clone["anonymous"] - clone["changed_ram"]),
            median(lambda clone: clone["proportional"]),
            used,
        ))
    return rows


def targets(key: str, samples: dict) -> list[tuple[str, float, str, bool]]:
    """Each target: what, measured, wanted, whether met."""
    median = {name: one["median"] for name, one in times(samples).items()}
    launch = median["RunMicrovm → first 200"]
    lines = [("launch ÷ floor", launch / median["floor → first 200"], "≤ 1.3", 1.3)]
    if boot := median.get("cold boot → first 200"):
        lines.append(("launch ÷ cold boot", launch / boot, "≤ 0.05", 0.05))
    for name, one in median.items():
        if name.startswith("suspend"):
            lines.append((f"{name}, ms", one, "≤ 200", 200))
        if name.startswith("request"):
            lines.append((f"{name} ÷ launch", one / launch, "≤ 1.3", 1.3))
    for count, _, _, _, rest, *_ in memory_rows(samples):
        lines.append((f"private memory beyond changed, {count} clone(s), MiB", rest, "≤ 60", 60))
    for name, *_, beyond in disk_rows(samples):
        lines.append((f"disk while suspended beyond changed, {name}, MiB", beyond, "≤ 5", 5))
    return [(f"{key}: {name}", value, wanted, value <= limit) for name, value, wanted, limit in lines]


def table(head: list[str], rows: list[tuple]) -> str:
    """Left-aligned names, right-aligned numbers."""
    cells = [head] + [[f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    line = lambda row: "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
    return "\n".join(line(row).rstrip() for row in cells)


def render(result: dict) -> str:
    """The whole report as text."""
    machine = result["machine"]
    parts = [", ".join(f"{name} {value}" for name, value in machine.items())]
    verdicts = []
    for key, samples in result["images"].items():
        rows = [(name, *one.values()) for name, one in times(samples).items()]
        loads = [run["load_average"] for run in samples["floor"]]
        parts.append(f"\n{key}: times in ms (load average {min(loads):.1f} to {max(loads):.1f})")
        parts.append(table(["", "median", "p95", "min", "max", "n"], rows))
        if samples["memory"]:
            parts.append(f"\n{key}: memory per clone in MiB (medians; the last column is the system's loss of MemAvailable)")
            head = ["clones", "private", "anonymous", "guest changed", "beyond changed", "proportional", "available"]
            parts.append(table(head, memory_rows(samples)))
        parts.append(f"\n{key}: disk per suspended microVM in MiB (medians)")
        parts.append(table(["", "RAM changed", "disk changed", "allocated", "beyond changed"], disk_rows(samples)))
        verdicts += targets(key, samples)
    parts.append("\nTargets")
    rows = [(name, f"{value:.3f}" if value < 10 else f"{value:.1f}", wanted, "met" if met else "MISSED")
            for name, value, wanted, met in verdicts]
    parts.append(table(["", "measured", "wanted", ""], rows))
    return "\n".join(parts)
