# SPDX-License-Identifier: BSD-3-Clause
"""The table of cases. To add a case is to add a row.

Targets are what the project wants to reach; each names the setups of its case that it is about.
"""

import os

from images import GIB, KIB, MIB, TIB
from setup import BEST, MODES, VARIANTS, Case, Client, Setup, Target

V2V = Client(options=("--request-size=4194304", "--requests=16", "--threads=8"))
ONE_CONNECTION = Client(options=("--connections=1",))
READ = Client("read")
CONNECT = Client("connect", size=16 * MIB, count=200)

IN_MEMORY = Setup("", server="memory")
TO_NGINX = Setup("", server="nginx")
TO_IMAGEIO = Setup("", server="imageio")
FROM_NGINX = Setup("", server="static", client=READ)


def ours(base, variant="", name="", **changes):
    """Our plugin, with the keys of a variant."""
    label = name or " ".join(["upload", variant]).strip()
    return base.but(name=label, program="upload", variant=variant, **changes)


def python(base, **changes):
    return base.but(name="python", program="python", **changes)


def null(base, **changes):
    return base.but(name="null", program="null", server="none", **changes)


def curl(base, streams=1, **changes):
    return base.but(name=f"curl x {streams}", program="curl", streams=streams, **changes)


def modes(base, variants=MODES):
    return tuple(ours(base, variant) for variant in variants)


def everybody(base, variants=MODES):
    """Our plugin in these variants, its rivals and the floors."""
    return (*modes(base, variants), python(base), curl(base, 1), curl(base, 4), null(base))


def most_memory(setup, threads=16, connections=4, request=256 * KIB, replay=128 * MIB):
    """48 MiB, the log, and the buffers of nbdkit's threads."""
    limit = 48 * MIB + replay + threads * connections * request
    return Target("peak", setup, limit)


BEST_NAME = f"upload {BEST}"
FLOORS = ("curl x 4", "null")

UPLOADS = [
    Case(
        "ext4-nginx",
        "a file system to nginx over TLS, nbdcopy's defaults",
        everybody(TO_NGINX, VARIANTS),
        (
            Target("wall", BEST_NAME, 0.60, ("python",)),
            Target("nbdkit_cpu", BEST_NAME, 0.50, ("python",)),
            Target("wall", BEST_NAME, 1.10, FLOORS),
            most_memory("upload", replay=0),
            most_memory(BEST_NAME),
        ),
    ),
    Case(
        "ext4-v2v",
        "the same as virt-v2v calls it",
        everybody(TO_NGINX.but(client=V2V, threads=8)),
        (
            Target("wall", BEST_NAME, 0.85, ("python",)),
            most_memory(BEST_NAME, threads=8, request=4 * MIB),
        ),
    ),
    Case(
        "ext4-one-connection",
        "the same over one NBD connection",
        everybody(TO_NGINX.but(client=ONE_CONNECTION)),
    ),
    Case(
        "ext4-http",
        "the same without TLS",
        everybody(TO_NGINX.but(transport="http")),
    ),
    Case(
        "ext4-unix",
        "the same through the server's unix socket",
        everybody(TO_NGINX.but(transport="unix")),
        (Target("wall", BEST_NAME, 0.50, ("python",)),),
    ),
    Case(
        "ext4-memory",
        "the same to the project's test server, in memory",
        everybody(IN_MEMORY),
    ),
    Case(
        "ext4-qemu-nbd",
        "the same to the test server in front of qemu-nbd",
        everybody(Setup("", server="nbd")),
    ),
]

IMAGEIO = [
    Case(
        "imageio-default",
        "a file system to a real ovirt-imageio over TLS, nbdcopy's defaults",
        everybody(TO_IMAGEIO),
        (
            Target("wall", BEST_NAME, 0.60, ("python",)),
            Target("wall", BEST_NAME, 1.05, ("curl x 4",)),
        ),
    ),
    Case(
        "imageio-v2v",
        "the same as virt-v2v calls it",
        everybody(TO_IMAGEIO.but(client=V2V, threads=8)),
        (Target("wall", BEST_NAME, 0.85, ("python",)),),
    ),
    Case(
        "imageio-unix",
        "the same through imageio's unix socket",
        (*modes(TO_IMAGEIO.but(transport="unix")), python(TO_IMAGEIO.but(transport="unix"))),
        (Target("wall", BEST_NAME, 0.50, ("python",)),),
    ),
]


def delayed(milliseconds):
    """An upload to a server that waits before each request."""
    base = Setup("", server="discard", image="ext4", delay_ms=milliseconds)
    setups = [*modes(base), base.but(name="nbdupload", program="nbdupload")]
    setups.append(curl(base))
    targets, ratios = [], [(setup.name, "curl x 1") for setup in setups[:-1]]
    if milliseconds == 20:
        targets = [Target("wall", "nbdupload", 1.15, ("curl x 1",))]
    if milliseconds < 100:  # It takes minutes at 100 ms.
        ratios += [(setup.name, "python") for setup in setups[:-1]]
        setups.append(python(base))
    else:
        ratios.append(("nbdupload", "nbdupload 20 ms"))
        setups.append(base.but(name="nbdupload 20 ms", program="nbdupload", delay_ms=20))
        targets = [Target("wall", "nbdupload", 1.5, ("nbdupload 20 ms",))]
    return Case(
        f"delay-{milliseconds}",
        f"a file system, {milliseconds} ms per request",
        tuple(setups),
        tuple(targets),
        tuple(ratios),
    )


def fragmented(kib):
    base = IN_MEMORY.but(image=f"fragments-{kib}")
    targets = []
    if kib == 4:
        targets = [
            Target("requests_per_extent", BEST_NAME, 0.05),
            Target("wall", BEST_NAME, 0.05, ("python",)),
        ]
    return Case(
        f"fragments-{kib}k",
        f"{kib} KiB of data, {kib} KiB of hole, and so on",
        (*modes(base), python(base)),
        tuple(targets),
    )


def written(pattern, kib, depth):
    """Small writes by fio. The same number for all, so that CPU times can be compared."""
    count = {1: 8000, 16: 20000, 64: 40000}[depth] // (4 if kib == 64 else 1)
    client = Client("fio", (), 256 * MIB, 0.0, pattern, kib * KIB, depth, count)
    base = TO_NGINX.but(image="empty-256", client=client)
    targets = []
    rate = "operations_per_second"
    if (pattern, kib, depth) == ("randwrite", 4, 64):
        times = Target(rate, BEST_NAME, 5, ("python",), at_least=True)
        targets = [
            Target(rate, BEST_NAME, 20000, at_least=True, other=times),
            Target(rate, "upload replay", 0.95, ("upload",), at_least=True),
            Target(rate, "replay 1G", 0.95, ("upload",), at_least=True),
        ]
    if (pattern, kib, depth) == ("write", 4, 1):
        targets = [Target(rate, BEST_NAME, 3, ("python",), at_least=True)]
    setups = list(modes(base))
    if targets:
        setups.append(ours(base, "replay", "replay 1G", keys=("replay=1G",)))
    kind = "random" if pattern == "randwrite" else "sequential"
    return Case(
        f"fio-{kind}-{kib}k-{depth}",
        f"{kind} writes of {kib} KiB, {depth} at once",
        (*setups, python(base)),
        tuple(targets),
    )


def exported(count):
    """The same bytes over so many exports of one nbdkit, by so many nbdcopy."""
    base = TO_NGINX.but(image=f"plain-{512 // count}", exports=count)
    name = "1 export" if count == 1 else f"{count} exports"
    return ours(base, BEST, name)


def sized(name, size, percent):
    """An image that nbdkit makes up while it is copied."""
    client = Client("generate", (), size, percent)
    base = Setup("", server="discard", image=f"empty-{size // MIB}", client=client)
    return ours(base, BEST, name)


WRITES = [
    *(fragmented(kib) for kib in (4, 16, 64)),
    *(
        written(pattern, kib, depth)
        for pattern in ("randwrite", "write")
        for kib in (4, 64)
        for depth in (1, 16, 64)
    ),
]

OTHERS = [
    *(delayed(milliseconds) for milliseconds in (1, 5, 20, 100)),
    Case(
        "read-nginx",
        "reading a file that nginx has, over TLS",
        (
            ours(FROM_NGINX),
            python(FROM_NGINX),
            FROM_NGINX.but(name="curl-plugin", program="curl-plugin"),
        ),
    ),
    Case(
        "read-file",
        "reading a file that the test server has, over TLS",
        (
            ours(FROM_NGINX.but(server="file")),
            python(FROM_NGINX.but(server="file")),
        ),
    ),
    Case(
        "drain",
        "sending 1 GiB that an earlier run has left in the spool, 20 ms per request",
        (
            Setup(
                "upload spool",
                variant="spool",
                keys=("spool-flush=local", "timeout=2"),
                server="discard",
                image="plain-1024",
                client=Client("drain"),
                delay_ms=20,
            ),
        ),
        (Target("wall", "upload spool", 3.0),),
    ),
    Case(
        "exports",
        "512 MiB to nginx over 1, 4 and 16 exports of one nbdkit",
        (exported(1), exported(4), exported(16)),
        (Target("mib_per_second", "16 exports", 1.0, ("1 export",), at_least=True),),
        (("4 exports", "1 export"), ("16 exports", "1 export")),
    ),
    Case(
        "sizes",
        "images of 1 GiB, of 16 GiB, and of 1 TiB with 1 GiB of data",
        (sized("1 GiB", GIB, 100), sized("16 GiB", 16 * GIB, 100), sized("1 TiB", TIB, 0.1)),
        (
            Target("peak", "16 GiB", 1.05, ("1 GiB",)),
            Target("peak", "1 TiB", 1.05, ("1 GiB",)),
            Target("wall_per_gib", "16 GiB", 1.10, ("1 GiB",)),
        ),
        (("16 GiB", "1 GiB"), ("1 TiB", "1 GiB")),
    ),
    Case(
        "connect",
        "connecting 200 times to nbdkit",
        (
            ours(IN_MEMORY.but(image="empty-16", client=CONNECT)),
            null(IN_MEMORY.but(image="empty-16", client=CONNECT)),
        ),
        (Target("connect_us", "upload", 1.15, ("null",)),),
    ),
]


def compare(first, second, plugin, mib, delay_ms):
    """Two ways to run the plugin, with random data and the discarding test server. A may be
    another plugin, or the script of PYTHON_PLUGIN."""
    base = Setup("", server="discard", image=f"plain-{mib}", delay_ms=delay_ms)
    program = "python" if os.environ.get("PYTHON_PLUGIN") else "upload"
    return Case(
        "compare",
        "B beside A: --a, --b, --delay, --size, --plugin",
        (
            base.but(name="A", program=program, keys=tuple(first), plugin=plugin or ""),
            base.but(name="B", keys=tuple(second)),
        ),
        ratios=(("B", "A"),),
    )


def table():
    """All cases but `compare`, by name."""
    return {case.name: case for case in [*UPLOADS, *IMAGEIO, *WRITES, *OTHERS]}
