# SPDX-License-Identifier: BSD-3-Clause
"""A plot of the ratios, as SVG, by gnuplot: below 1 is faster than the rival."""

import os

import processes
import servers

ROW_PIXELS = 22


def quoted(text):
    return '"' + text.replace("\\", "/").replace('"', "'") + '"'


def script(results, output):
    """What gnuplot is told. One bar for each ratio of wall times, with its spread."""
    rows = [
        (f"{result.case.name}: {ratio.mine} / {ratio.rival}", ratio)
        for result in results
        for ratio in result.ratios
        if ratio.metric == "wall"
    ]
    rows.reverse()  # The first on top.
    lines = [
        f'"{label}" {row} {ratio.value} {ratio.least} {ratio.most}'
        for row, (label, ratio) in enumerate(rows)
    ]
    return "\n".join(
        [
            "$data << END",
            *lines,
            "END",
            f"set terminal svg size 1000,{120 + ROW_PIXELS * max(1, len(rows))} font 'sans,11'",
            f"set output {quoted(output)}",
            "set title 'Wall time as a ratio of the rival: medians, and the spread of the rounds'",
            "set logscale x 2; set grid xtics; unset key; set style fill solid 0.5",
            f"set yrange [-0.8:{len(rows) - 0.2}]",
            "set arrow from 1, graph 0 to 1, graph 1 nohead linecolor rgb 'black'",
            "bar = 0.35",
            "plot $data using 3:2:(1):3:($2-bar):($2+bar):yticlabels(1) with boxxyerror, \\",
            "  $data using 3:2:4:5 with xerrorbars pointtype 7 pointsize 0.3 linecolor rgb 'black'",
            "",
        ]
    )


def draw(results, output, directory):
    """Returns a remark in place of a plot if there is nothing to be drawn."""
    if not any(ratio.metric == "wall" for result in results for ratio in result.ratios):
        return "no plot: there are no ratios"
    program = servers.need("gnuplot", "gnuplot-nox")
    file = os.path.join(directory, "plot.gnuplot")
    with open(file, "w", encoding="utf-8") as text:
        text.write(script(results, os.path.abspath(output)))
    processes.run([program, file], os.path.join(directory, "gnuplot.log"), 60)
    return ""
