# SPDX-License-Identifier: BSD-3-Clause
"""Processes that the suite starts, and what each of them has cost.

A process gets a session of its own, so that Ctrl-C reaches the suite alone, which then stops
what it has started, by process id. CPU time is that of wait4(2): of the process and of the
children it has waited for, so that nginx's workers count as nginx's. Every wait has a limit.
"""

import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass

from failure import Failure

STOP_SECONDS = 120


@dataclass(frozen=True)
class Usage:
    """What a process has cost. Its own start and end are part of it."""

    cpu_seconds: float
    status: int  # Of its exit; -N when signal N has ended it.


class Process:
    """One process. `with` makes sure that it has ended; its output goes to the file `log`."""

    def __init__(self, arguments, log, stdout=None, directory=None):
        self.name = os.path.basename(str(arguments[0]))
        self.log = log
        with open(log, "ab") as errors, open(stdout or log, "ab") as output:
            self._popen = subprocess.Popen(
                [str(word) for word in arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=directory,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        self._handle = os.pidfd_open(self.pid)
        self._usage = None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self._usage is None:
            try:
                self.stop(10)
            except Failure:
                pass  # stop() has killed it, and another error is already on its way.
        os.close(self._handle)

    def peak_bytes(self):
        """The largest resident set so far (VmHWM); 0 if the process has ended."""
        try:
            with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as lines:
                for line in lines:
                    if line.startswith("VmHWM:"):
                        return int(line.split()[1]) * 1024
        except OSError:
            pass
        return 0

    def ended(self, seconds=0.0):
        """Whether the process has ended, waiting for that at most so long."""
        poller = select.poll()
        poller.register(self._handle, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def wait(self, seconds):
        """Waits for the end, and takes a process that runs longer for a failure."""
        if self._usage is not None:
            return self._usage
        if not self.ended(seconds):
            self._kill()
            raise Failure(f"{self.name} runs for more than {seconds:.0f} s; {self.said()}")
        return self._reap()

    def stop(self, seconds=STOP_SECONDS, number=signal.SIGTERM):
        """Asks the process to end, and waits."""
        if self._usage is None and not self.ended():
            os.kill(self.pid, number)
        return self.wait(seconds)

    def said(self):
        """The end of what it has written, for error texts."""
        try:
            with open(self.log, encoding="utf-8", errors="replace") as text:
                lines = text.read().strip().splitlines()
        except OSError:
            lines = []
        return "it said: " + (" | ".join(lines[-4:]) or "nothing")

    def _kill(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)  # The group is the session of this process.
        except ProcessLookupError:
            pass
        self.ended(10)
        self._reap()

    def _reap(self):
        _, status, usage = os.wait4(self.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        self._usage = Usage(usage.ru_utime + usage.ru_stime, self._popen.returncode)
        return self._usage


def run(arguments, log, seconds, stdout=None):
    """Runs a program to its end, which has to be a success."""
    with Process(arguments, log, stdout) as process:
        usage = process.wait(seconds)
        if usage.status != 0:
            raise Failure(f"{process.name}: exit status {usage.status}; {process.said()}")
        return usage


def wait_until(condition, process, seconds=60.0):
    """Waits until condition() holds, as long as the process runs."""
    limit = time.monotonic() + seconds
    while not condition():
        if process.ended(0.002):
            raise Failure(f"{process.name} does not start; {process.said()}")
        if time.monotonic() > limit:
            raise Failure(f"{process.name} is not ready after {seconds:.0f} s; {process.said()}")
