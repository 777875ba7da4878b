# SPDX-License-Identifier: BSD-3-Clause
"""The results as text, in Markdown, and as values for JSON."""

from dataclasses import asdict

from images import MIB

# Heading, metric, how a figure is shown.
COLUMNS = [
    ("wall s", "wall", lambda v: f"{v:.2f}"),
    ("CPU s nbdkit", "nbdkit_cpu", lambda v: f"{v:.2f}"),
    ("client", "client_cpu", lambda v: f"{v:.2f}"),
    ("server", "server_cpu", lambda v: f"{v:.2f}"),
    ("peak MiB", "peak", lambda v: f"{v / MIB:.0f}"),
    ("requests", "requests", lambda v: f"{v:.0f}"),
    ("MiB/s", "mib_per_second", lambda v: f"{v:.0f}"),
    ("s/GiB", "wall_per_gib", lambda v: f"{v:.2f}"),
    ("writes/s", "operations_per_second", lambda v: f"{v:.0f}"),
    ("connect us", "connect_us", lambda v: f"{v:.0f}"),
    ("write us", "write_us", lambda v: f"{v:.0f}"),
]
WORDS = {
    "wall": "wall",
    "nbdkit_cpu": "CPU of nbdkit",
    "peak": "peak memory",
    "requests": "requests",
    "operations_per_second": "writes/s",
    "requests_per_extent": "requests per extent",
    "connect_us": "time to connect",
    "mib_per_second": "MiB/s",
    "wall_per_gib": "wall per GiB",
}
# Those of the ratios that are shown; JSON has all.
SHOWN = ("wall", "nbdkit_cpu", "operations_per_second", "connect_us")


def table(headings, rows, column="---:|"):
    """A table in Markdown; all columns but the first are aligned to the right, or as told."""
    lines = ["| " + " | ".join(headings) + " |"]
    lines.append("|---|" + column * (len(headings) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def markdown(result):
    """A case: figures, ratios, and what was left out."""
    text = f"### {result.case.name}: {result.case.shows}\n\n"
    if result.measured:
        text += figures(result) + "\n"
    if result.ratios:
        text += ratios(result) + "\n"
    for why in sorted(set(result.skipped.values())):
        names = [name for name, reason in result.skipped.items() if reason == why]
        text += f"Not measured: {', '.join(names)}: {why}\n\n"
    for item in result.measured.values():
        for line in item.runs[0].get("warnings", [])[:3]:
            text += f"{item.setup.name} said: {line}\n\n"
    return text


def figures(result):
    measured = result.measured.values()
    columns = [c for c in COLUMNS if any(m.median(c[1]) is not None for m in measured)]
    traced = any(m.system_calls for m in measured)
    rows = []
    for item in measured:
        values = [item.median(metric) for _, metric, _ in columns]
        row = [item.setup.name]
        row += ["" if v is None else show(v) for v, (_, _, show) in zip(values, columns)]
        if traced:
            row.append(str(item.system_calls.get("total", "")))
        rows.append(row)
    headings = ["medians"] + [heading for heading, _, _ in columns]
    return table(headings + (["system calls"] if traced else []), rows)


def ratios(result):
    """One row for each pair, with the spread of the rounds in brackets."""
    metrics = [m for m in SHOWN if any(ratio.metric == m for ratio in result.ratios)]
    rows = {}
    for ratio in result.ratios:
        if ratio.metric in metrics:
            row = rows.setdefault(f"{ratio.mine} / {ratio.rival}", {})
            row[ratio.metric] = f"{ratio.value:.2f} ({ratio.least:.2f}..{ratio.most:.2f})"
    headings = ["ratio"] + [WORDS[metric] for metric in metrics]
    return table(headings, [[pair] + [row.get(m, "") for m in metrics] for pair, row in rows.items()])


def amount(metric, value):
    return f"{value / MIB:.0f} MiB" if metric == "peak" else f"{value:.4g}"


def target_text(target):
    against = " + ".join(target.against)
    text = f"{WORDS.get(target.metric, target.metric)} of {target.setup}"
    text += f" / ({against})" if len(target.against) > 1 else f" / {against}" if against else ""
    relation = "at least" if target.at_least else "at most"
    ratio = f"{target.limit:g}"
    if target.metric == "peak" and not target.against:
        ratio = amount(target.metric, target.limit)
    text += f" {relation} {ratio}"
    return text + (f", or {target_text(target.other)}" if target.other else "")


def verdicts(results):
    """All targets of all cases."""
    rows = []
    for result in results:
        for verdict in result.verdicts:
            target = verdict.target
            value, outcome = "", "not measured"
            if verdict.value is not None:
                value = f"{verdict.value:.2f}"
                if not target.against:
                    value = amount(target.metric, verdict.value)
                outcome = "met" if verdict.met else f"missed by {verdict.missed_by:.1%}"
            rows.append([result.case.name, target_text(target), value, outcome])
    if not rows:
        return ""
    return "### Targets\n\n" + table(["case", "target", "value", ""], rows, "---|")


def as_values(result):
    """For JSON: everything that was measured."""
    return {
        "name": result.case.name,
        "shows": result.case.shows,
        "setups": [
            {
                "setup": asdict(item.setup),
                "runs": item.runs,
                "medians": {
                    metric: item.median(metric)
                    for metric in sorted({key for figures in item.runs for key in figures})
                    if metric not in ("request_kinds", "warnings")
                },
                "system_calls": item.system_calls,
            }
            for item in result.measured.values()
        ],
        "ratios": [asdict(ratio) for ratio in result.ratios],
        "targets": [
            {
                "target": target_text(verdict.target),
                "value": verdict.value,
                "limit": verdict.limit,
                "met": None if verdict.value is None else verdict.met,
                "missed_by": verdict.missed_by,
            }
            for verdict in result.verdicts
        ],
        "skipped": result.skipped,
    }
