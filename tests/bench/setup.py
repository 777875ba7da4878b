# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: a Setup, which is a program that sends an image with a client to a server.

Nothing is run here.
"""

from dataclasses import dataclass, replace

# What our plugin is run with. A row here is a variant, and a line in the cases' tables.
VARIANTS = {
    "": (),
    "replay": ("replay=128M",),
    "write-back": ("replay=128M", "write-back=true"),
    "spool": ("replay=128M", "spool={spool}"),
}
# The variant that targets of the whole plugin are about.
BEST = "write-back"
# Those that cases show which are not about the spool.
MODES = tuple(name for name in VARIANTS if name != "spool")


@dataclass(frozen=True)
class Client:
    """Who writes to the NBD server, or reads from it. Sizes are in bytes.

    nbdcopy   copies the image; with `options`
    read      copies from the server into nothing
    generate  copies `size` bytes, of which `percent` are data, that nbdkit makes up
    fio       `count` writes of `block` bytes, random or sequential (`pattern`), `depth` at once
    connect   connects `count` times
    drain     fills the spool while there is no server, then waits for it to be sent
    """

    kind: str = "nbdcopy"
    options: tuple = ()
    size: int = 0
    percent: float = 0.0
    pattern: str = ""
    block: int = 0
    depth: int = 0
    count: int = 0


@dataclass(frozen=True)
class Setup:
    """One line of a case's table; `name` is unique in the case.

    program   upload (our plugin), python, null, curl-plugin: in nbdkit, with the client;
              curl (curl -T, `streams` at once) and nbdupload: without
    """

    name: str
    program: str = "upload"
    variant: str = ""
    keys: tuple = ()
    plugin: str = ""  # A file to use in place of the build's.
    server: str = "nginx"
    transport: str = "https"  # https, http, unix
    image: str = "ext4"
    client: Client = Client()
    threads: int = 0  # nbdkit's -t; 0: its default
    exports: int = 1
    streams: int = 1
    delay_ms: int = 0
    port: int = 0  # Of the test server; 0: any

    def but(self, **changes):
        return replace(self, **changes)


@dataclass(frozen=True)
class Target:
    """What a case's figures have to be: `metric` of `setup`, divided by that of `against` added
    up if there is any, is at most `limit`, or at least if `at_least`; or `other` is met."""

    metric: str
    setup: str
    limit: float
    against: tuple = ()
    at_least: bool = False
    other: "Target | None" = None


@dataclass(frozen=True)
class Case:
    """A table of the report. All setups are run in turn, as often as there are pairs."""

    name: str
    shows: str
    setups: tuple
    targets: tuple = ()
    # Pairs of names: (ours, the one that ours is a ratio of). Empty: all of ours by all others.
    ratios: tuple = ()

    def pairs(self):
        if self.ratios:
            return list(self.ratios)
        ours = [s for s in self.setups if s.program in ("upload", "nbdupload") and not s.plugin]
        rivals = [s for s in self.setups if s not in ours]
        return [(mine.name, rival.name) for mine in ours for rival in rivals]
