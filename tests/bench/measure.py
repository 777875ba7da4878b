# SPDX-License-Identifier: BSD-3-Clause
"""Measures a case: all its setups in turn, A B C A B C, and then medians, ratios and targets.

A ratio is that of the medians; its spread is the smallest and the largest ratio of two runs of the
same round, which had the same neighbours on the machine.
"""

import sys
from dataclasses import dataclass, field
from statistics import median

import run
from failure import Missing

# What is put in relation, if both have it.
COMPARED = ("wall", "nbdkit_cpu", "peak", "requests", "operations_per_second", "connect_us")


@dataclass
class Measured:
    """A setup and its runs."""

    setup: object
    runs: list = field(default_factory=list)
    system_calls: dict = field(default_factory=dict)

    def median(self, metric):
        """None if no run has that figure."""
        values = [run[metric] for run in self.runs if metric in run]
        return median(values) if values else None


@dataclass
class Ratio:
    metric: str
    mine: str
    rival: str
    value: float
    least: float
    most: float


@dataclass
class Verdict:
    target: object
    value: float
    limit: float
    met: bool
    # By how much it is missed, as a part of the limit; 0 if it is met.
    missed_by: float


@dataclass
class Result:
    """A case, measured. `skipped` says which setups were not run, and why."""

    case: object
    measured: dict = field(default_factory=dict)
    skipped: dict = field(default_factory=dict)
    ratios: list = field(default_factory=list)
    verdicts: list = field(default_factory=list)


def measure(place, case, pairs, with_system_calls):
    result = Result(case)
    for number in range(pairs):
        for setup in case.setups:
            if setup.name in result.skipped:
                continue
            tell(f"{case.name}: {setup.name}, {number + 1} of {pairs}")
            try:
                figures = run.run(place, setup)
            except Missing as missing:
                result.skipped[setup.name] = str(missing)
                continue
            result.measured.setdefault(setup.name, Measured(setup)).runs.append(figures)
    for measured in result.measured.values():
        if with_system_calls and measured.runs[0].get("nbdkit_cpu") is not None:
            tell(f"{case.name}: {measured.setup.name}, system calls")
            measured.system_calls = run.trace(place, measured.setup)
    tell("")
    for pair in case.pairs():
        result.ratios += compare(result.measured, *pair)
    result.verdicts = [judge(result.measured, target) for target in case.targets]
    return result


def compare(measured, mine, rival):
    """The ratios of all figures that both have."""
    if mine not in measured or rival not in measured:
        return []
    ratios = []
    for metric in COMPARED:
        above, below = measured[mine].median(metric), measured[rival].median(metric)
        if not above or not below:
            continue
        rounds = [
            a[metric] / b[metric]
            for a, b in zip(measured[mine].runs, measured[rival].runs)
            if a.get(metric) and b.get(metric)
        ]
        if rounds:
            ratios.append(Ratio(metric, mine, rival, above / below, min(rounds), max(rounds)))
    return ratios


def judge(measured, target):
    """The Verdict, with `value` None if something was not measured."""
    names = (target.setup, *target.against)
    figures = [measured[name].median(target.metric) if name in measured else None for name in names]
    if any(figure is None for figure in figures) or (target.against and sum(figures[1:]) == 0):
        return Verdict(target, None, target.limit, False, 0.0)
    value = figures[0] / sum(figures[1:]) if target.against else figures[0]
    met = value >= target.limit if target.at_least else value <= target.limit
    distance = target.limit - value if target.at_least else value - target.limit
    if not met and target.other is not None and judge(measured, target.other).met:
        met = True
    return Verdict(target, value, target.limit, met, 0.0 if met else distance / target.limit)


def tell(text):
    """Progress, for somebody who looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
