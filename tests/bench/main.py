# SPDX-License-Identifier: BSD-3-Clause
"""Measures the plugin beside its rivals, in turn, and prints tables in Markdown.

bench                      all cases; takes hours
bench ext4-nginx 'fio-*'   these
bench --list               what there is
bench compare --b replay=128M --delay 20 --size 256
                           two ways to run the plugin: B's keys beside A's; with --plugin, A is
                           that plugin's file, and with PYTHON_PLUGIN in the environment that
                           script in nbdkit-python-plugin

PYTHON_PLUGIN=FILE takes the place of tests/bench/synchronous_plugin.py. IMAGEIO_URL and IMAGEIO_CA
name an image of a real ovirt-imageio, for the cases imageio-*. docs/performance.md says
how to read the tables. A target that is missed is no error: the exit status is 0 if all that
could be measured was, 1 if something failed, 2 for usage.
"""

import argparse
import fnmatch
import json
import os
import platform
import shutil
import signal
import sys
import time

# The source tree may be read only, and is not to be changed anyway. Before the imports.
sys.dont_write_bytecode = True

import cases
import images
import measure
import plot
import processes
import report
from failure import Failure, Missing
from run import Place
from setup import Case

SOURCE = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "../.."))
ROOM = 6 * images.GIB


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: a number from 1 on is needed")
    return number


def key_value(text):
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text}: KEY=VALUE is needed")
    return text


def existing_file(text):
    if not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text}: there is no such file")
    return os.path.realpath(text)


def arguments():
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", nargs="*", help="a name or a pattern; compare")
    parser.add_argument("--list", action="store_true", help="show the cases, measure nothing")
    parser.add_argument("-n", "--pairs", type=positive, metavar="N", help="rounds; default 5")
    parser.add_argument(
        "-b",
        "--build",
        default="build-check",
        metavar="DIR",
        help="in the source tree, or absolute; default build-check",
    )
    parser.add_argument(
        "-p",
        "--plugin",
        type=existing_file,
        metavar="FILE",
        help="one more rival: a plugin of another commit",
    )
    parser.add_argument(
        "--key",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for our plugin, in all cases",
    )
    parser.add_argument(
        "--directory", metavar="DIR", help="for all that is written meanwhile; default /dev/shm"
    )
    parser.add_argument("--json", metavar="FILE", help="all figures of all runs")
    parser.add_argument("--plot", metavar="FILE.svg", help="the ratios, by gnuplot")
    parser.add_argument(
        "--syscalls", action="store_true", help="one more run of each under strace, which counts"
    )
    parser.add_argument("--quick", action="store_true", help="small images, one round: a test of bench")
    group = parser.add_argument_group("compare")
    group.add_argument("--a", type=key_value, action="append", default=[], metavar="KEY=VALUE")
    group.add_argument("--b", type=key_value, action="append", default=[], metavar="KEY=VALUE")
    group.add_argument("-d", "--delay", type=int, default=0, metavar="MS", help="per request")
    group.add_argument("-s", "--size", type=positive, default=512, metavar="MIB", help="default 512")
    options = parser.parse_args()
    options.pairs = options.pairs or (1 if options.quick else 5)
    return parser, options


def chosen(parser, options):
    """The cases that are asked for, in the table's order."""
    known = cases.table()
    known["compare"] = cases.compare(
        options.a, options.b, options.plugin, options.size, options.delay
    )
    names = set()
    for pattern in options.case:
        found = fnmatch.filter(known, pattern)
        if not found:
            parser.error(f"{pattern}: no such case; --list shows them")
        names.update(found)
    picked = [case for name, case in known.items() if name in (names or set(known) - {"compare"})]
    if options.plugin:
        picked = [c if c.name == "compare" else with_rival(c, options.plugin) for c in picked]
    if options.quick:
        picked = [Case(c.name, c.shows, tuple(map(small, c.setups)), c.targets, c.ratios) for c in picked]
    return picked


def with_rival(case, plugin):
    """The case with another plugin beside each of ours."""
    mine = [s for s in case.setups if s.program in ("upload", "nbdupload")]
    others = [s.but(name=f"other {s.name}", plugin=plugin) for s in mine]
    ratios = tuple(case.pairs()) + tuple((s.name, f"other {s.name}") for s in mine)
    return Case(case.name, case.shows, case.setups + tuple(others), case.targets, ratios)


def small(setup):
    """The setup with little to do; Images makes the images small."""
    client = setup.client
    size = client.size // 256 if client.kind == "generate" else client.size
    changed = type(client)(**{**vars(client), "count": min(client.count, 64), "size": size})
    kind, _, mib = setup.image.partition("-")
    image = f"plain-{max(1, int(mib) // 128)}" if kind == "plain" else setup.image
    if client.kind == "generate":
        image = f"empty-{max(1, size // images.MIB)}"
    return setup.but(client=changed, image=image)


def built(parser, options):
    """The directory of the build, which has to be complete."""
    directory = os.path.join(SOURCE, options.build)
    for file in ("upload-server", ".libs/nbdkit-upload-plugin.so"):
        if not os.path.exists(os.path.join(directory, file)):
            parser.error(
                f"--build {options.build}: there is no {file}; scripts/check builds all in "
                f"build-check, and make bench what it needs"
            )
    return os.path.realpath(directory)


def make_certificates(place):
    """The test server makes them at its start."""
    port = os.path.join(place.directory, "first-port")
    words = [place.server_program, "--cert-dir", place.certificates, "--port-file", port]
    with processes.Process(
        words + ["--ticket", "a=discard:1M"], os.path.join(place.directory, "first.log")
    ) as server:
        processes.wait_until(lambda: os.path.exists(port), server)
        server.stop()


def machine(options):
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "pairs": options.pairs,
        "keys": options.key,
        "quick": options.quick,
        "command": ["bench", *sys.argv[1:]],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def heading(about):
    """What the figures below it have been measured with."""
    load, cpus = about["load_before"], about["cpus"]
    text = f"`{' '.join(about['command'])}`: medians of {about['pairs']} rounds, {cpus} processors, "
    text += f"Linux {about['kernel']}, load {load:.1f} before.\n"
    if load > cpus / 4:
        text += "**The machine was not idle: wall times say little, CPU times somewhat more.**\n"
    return text


def measure_all(place, picked, options):
    """Prints each case when it is done. Returns the results, and how many have failed."""
    results, failures = [], 0
    for case in picked:
        place.images.keep_only({setup.image for setup in case.setups})
        try:
            result = measure.measure(place, case, options.pairs, options.syscalls)
        except Failure as failure:
            print(f"bench: {case.name}: {failure}", file=sys.stderr)
            failures += 1
            continue
        results.append(result)
        print(report.markdown(result), flush=True)
    print(report.verdicts(results), end="")
    return results, failures


def save(place, results, options, about):
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            values = [report.as_values(result) for result in results]
            json.dump({"machine": about, "cases": values}, file, indent=1)
            file.write("\n")
    if options.plot:
        try:
            remark = plot.draw(results, options.plot, place.directory)
        except Missing as missing:
            remark = f"no plot: {missing}"
        if remark:
            print(f"bench: {remark}", file=sys.stderr)


def main():
    parser, options = arguments()
    picked = chosen(parser, options)
    if options.list:
        for case in picked:
            mark = f" (targets: {len(case.targets)})" if case.targets else ""
            print(f"{case.name:24} {case.shows}{mark}")
        return 0
    build = built(parser, options)
    script = os.environ.get("PYTHON_PLUGIN")
    if script and not os.path.isfile(script):
        parser.error(f"PYTHON_PLUGIN={script}: there is no such file")
    if options.directory and not os.path.isdir(options.directory):
        parser.error(f"--directory {options.directory}: there is no such directory")
    # An end by a signal is to clean up, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *unused: sys.exit(143))
    os.environ.update({"LC_ALL": "C", "no_proxy": "*"})  # Loopback only.
    about = machine(options)
    directory = images.private_directory(options.directory)
    try:
        if not options.quick:
            images.need_room(directory, ROOM)
        for name in ("certificates", "images", "run"):
            os.mkdir(os.path.join(directory, name))
        place = Place(
            directory=os.path.join(directory, "run"),
            certificates=os.path.join(directory, "certificates"),
            build=build,
            source=SOURCE,
            server_program=os.path.join(build, "upload-server"),
            plugin=os.path.join(build, ".libs/nbdkit-upload-plugin.so"),
            python_script=script or os.path.join(SOURCE, "tests/bench/synchronous_plugin.py"),
            images=images.Images(os.path.join(directory, "images"), options.quick),
            keys=tuple(options.key),
        )
        make_certificates(place)
        print(heading(about), flush=True)
        results, failures = measure_all(place, picked, options)
        save(place, results, options, about)
        return 1 if failures else 0
    except (Failure, Missing) as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
