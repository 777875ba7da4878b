# SPDX-License-Identifier: BSD-3-Clause
"""One run of a Setup: starts the server, nbdkit and the client, ends them, and tells the cost.

The wall time is that of nbdkit, from its start to its end, and so of the whole upload: the
client flushes, except where its case is about something else. Without nbdkit it is the client's.
"""

import json
import os
import shutil
import signal
import time
from dataclasses import dataclass, replace

import processes
import servers
from failure import Failure, Missing
from images import MIB
from setup import VARIANTS

RUN_SECONDS = 900
CONNECTED_WRITES = 100


@dataclass
class Place:
    """Where runs happen, and with what; the same for all of them."""

    directory: str
    certificates: str
    build: str
    source: str
    server_program: str
    plugin: str
    python_script: str
    images: object
    keys: tuple  # For our plugin, in all cases.


def run(place, setup):
    """Does it once. Returns a dictionary of metrics, in seconds, bytes and plain numbers."""
    image = image_of(place, setup)
    shutil.rmtree(os.path.join(place.directory, "spool"), ignore_errors=True)
    if setup.client.kind == "drain":
        setup = setup.but(port=servers.free_port())  # A spool belongs to host and port.
        fill_spool(place, setup, image)
    with servers.serve(place, setup, image) as server:
        if setup.program in ("curl", "nbdupload"):
            result = run_alone(place, setup, image, server)
        else:
            result = run_nbdkit(place, setup, image, server)
        server.end()
        if server.cost.known:
            result["server_cpu"] = server.cost.cpu_seconds
            result["requests"] = sum(server.cost.requests.values())
            result["request_kinds"] = dict(server.cost.requests)
            result["requests_per_extent"] = result["requests"] / max(1, image.extents)
    data = image.data * setup.exports
    if setup.client.kind == "generate":
        data = setup.client.size * setup.client.percent / 100
    if data and setup.client.kind in ("nbdcopy", "read", "generate", "drain"):
        result["mib_per_second"] = data / MIB / result["wall"]
    if setup.client.kind == "generate":
        result["wall_per_gib"] = result["wall"] / (data / MIB / 1024)
    return result


def image_of(place, setup):
    """The image, of the size that the client says if it has one in mind."""
    image = place.images.get(setup.image)
    return replace(image, size=setup.client.size or image.size)


# --- Without nbdkit -----------------------------------------------------------


def run_alone(place, setup, image, server):
    """curl, or nbdupload, which runs an nbdkit of its own."""
    if setup.program == "curl":
        commands = curl_commands(place, setup, server)
    else:
        # The URL is no secret here.
        words = [os.path.join(place.build, "nbdupload"), "--quiet"]
        words += [f"--plugin={setup.plugin or place.plugin}", image.path, server.urls()[0]]
        commands = [words + common_keys(place, setup, server)]
    start = time.monotonic()
    usages = run_together(place, commands)
    return {
        "wall": time.monotonic() - start,
        "client_cpu": sum(usage.cpu_seconds for usage in usages),
    }


def curl_commands(place, setup, server):
    """The same bytes in so many requests side by side, of one curl each."""
    offset, commands = 0, []
    for path in place.images.parts(setup.image, setup.streams):
        length = os.path.getsize(path)
        words = [servers.need("curl"), "-sS", "--fail", "-o", "/dev/null", "-T", path]
        words += ["-H", "Expect:", "-H", f"Content-Range: bytes {offset}-{offset + length - 1}/*"]
        words += ["--cacert", server.cafile] if setup.transport == "https" else []
        words += ["--unix-socket", server.unix_socket] if setup.transport == "unix" else []
        url = server.urls()[0]
        url = url.replace("https:", "http:") if setup.transport == "unix" else url
        commands.append(words + [f"{url}?flush=n"])
        offset += length
    return commands


def run_together(place, commands):
    """Runs commands side by side to their ends, which have to be successes."""
    started = []
    try:
        for number, command in enumerate(commands):
            log = os.path.join(place.directory, f"client{number}.log")
            output = os.path.join(place.directory, f"client{number}.out")
            for file in (log, output):
                open(file, "wb").close()
            started.append(processes.Process(command, log, output))
        usages = [process.wait(RUN_SECONDS) for process in started]
        for process, usage in zip(started, usages):
            if usage.status != 0:
                raise Failure(f"{process.name}: exit status {usage.status}; {process.said()}")
        return usages
    finally:
        for process in started:
            process.__exit__()


# --- With nbdkit --------------------------------------------------------------


def nbdkit_words(place, setup, image, server):
    """The command, and the socket where clients find it."""
    socket = os.path.join(place.directory, "nbd.sock")
    pid_file = os.path.join(place.directory, "nbdkit.pid")
    for file in (socket, pid_file, os.path.join(place.directory, "nbdkit.log")):
        if os.path.exists(file):
            os.unlink(file)
    words = [servers.need("nbdkit"), "--foreground", "--unix", socket, "--pidfile", pid_file]
    words += ["--threads", setup.threads] if setup.threads else []
    return words + plugin_arguments(place, setup, image, server), socket


def wait_for_nbdkit(place, nbdkit):
    """Waits until clients can connect. Returns nbdkit's process id."""
    pid_file = os.path.join(place.directory, "nbdkit.pid")
    there = lambda: os.path.exists(pid_file) and os.path.getsize(pid_file) > 0
    processes.wait_until(there, nbdkit, RUN_SECONDS)
    with open(pid_file, encoding="ascii") as file:
        return int(file.read())


def run_nbdkit(place, setup, image, server):
    words, socket = nbdkit_words(place, setup, image, server)
    commands = client_commands(place, setup, image, socket)
    start = time.monotonic()
    with processes.Process(words, os.path.join(place.directory, "nbdkit.log")) as nbdkit:
        wait_for_nbdkit(place, nbdkit)
        begun = time.monotonic()
        usages = run_together(place, commands)
        copied = time.monotonic() - begun
        peak = nbdkit.peak_bytes()
        usage = nbdkit.stop(RUN_SECONDS)
    if usage.status != 0:
        raise Failure(f"nbdkit: exit status {usage.status}; {nbdkit.said()}")
    return {
        "wall": time.monotonic() - start,
        "client_wall": copied,
        "nbdkit_cpu": usage.cpu_seconds,
        "client_cpu": sum(usage.cpu_seconds for usage in usages),
        "peak": peak,
        # Those of draining belong to it.
        "warnings": warnings(nbdkit.log) if setup.client.kind != "drain" else [],
        **client_figures(place, setup),
    }


def trace(place, setup):
    """One more run, with nbdkit under strace. Returns its system calls, by name and in "total"."""
    image = image_of(place, setup)
    calls = os.path.join(place.directory, "calls")
    with servers.serve(place, setup, image) as server:
        words, socket = nbdkit_words(place, setup, image, server)
        words = [servers.need("strace"), "-c", "-f", "-o", calls] + words
        with processes.Process(words, os.path.join(place.directory, "nbdkit.log")) as strace:
            pid = wait_for_nbdkit(place, strace)
            run_together(place, client_commands(place, setup, image, socket))
            os.kill(pid, signal.SIGTERM)  # strace passes no signal on, and ends with nbdkit.
            strace.wait(RUN_SECONDS)
    return system_calls(calls)


def warnings(log):
    """What nbdkit has warned of: a case may not be what it seems."""
    with open(log, encoding="utf-8", errors="replace") as lines:
        return [line.strip() for line in lines if "warning" in line]


def plugin_arguments(place, setup, image, server):
    if setup.program == "null":
        return ["null", f"size={image.size}"]
    if setup.program == "curl-plugin":
        servers.need_plugin("curl", "nbdkit")
        return ["curl", server.urls()[0], f"cainfo={server.cafile}"]
    if setup.program == "python":
        servers.need_plugin("python", "nbdkit-plugin-python")
        words = ["python", place.python_script, f"size={image.size}"]
        return words + [f"url={server.urls()[0]}"] + transport_keys(setup, server)
    words = [setup.plugin or place.plugin] + common_keys(place, setup, server)
    if setup.exports == 1:
        return words + [f"size={image.size}", f"url={server.urls()[0]}"]
    for name, url in zip(server.names(), server.urls()):
        words += [f"export={name}", f"url={url}"]
    return words


def transport_keys(setup, server):
    keys = [f"cafile={server.cafile}"] if server.cafile else []
    return keys + (["is_ovirt_host=true"] if setup.transport == "unix" else [])


def common_keys(place, setup, server):
    """Those of our plugin, of which the last one of a name counts."""
    spool = os.path.join(place.directory, "spool")
    os.makedirs(spool, mode=0o700, exist_ok=True)
    keys = [*VARIANTS[setup.variant], *setup.keys, *place.keys]
    return transport_keys(setup, server) + [key.replace("{spool}", spool) for key in keys]


def client_commands(place, setup, image, socket):
    client = setup.client
    names = [f"bench{number}" for number in range(setup.exports)] if setup.exports > 1 else [""]
    uris = [f"nbd+unix:///{name}?socket={socket}" for name in names]
    if client.kind == "nbdcopy":
        copy = [servers.need("nbdcopy", "libnbd-bin"), "--flush", *client.options, image.path]
        return [copy + [uri] for uri in uris]
    if client.kind == "read":
        return [[servers.need("nbdcopy", "libnbd-bin"), *client.options, uris[0], "null:"]]
    if client.kind == "generate":
        source = ["[", "nbdkit", "sparse-random", f"size={client.size}", f"runlength={MIB}"]
        source += [f"percent={client.percent:.6f}", "]"]
        return [[servers.need("nbdcopy", "libnbd-bin"), "--flush", "--", *source, uris[0]]]
    if client.kind == "fio":
        return [fio_command(client, uris[0])]
    if client.kind == "drain":
        return [[servers.need("nbdinfo", "libnbd-bin"), "--size", uris[0]]]
    program = os.path.join(place.build, "connect-bench")
    if not os.path.exists(program):
        raise Missing(f"there is no connect-bench (make -C {place.build} connect-bench)")
    return [[program, socket, client.count, CONNECTED_WRITES]]


def fio_command(client, uri):
    words = [servers.need("fio"), "--name=bench", "--ioengine=nbd", f"--uri={uri}"]
    words += [f"--rw={client.pattern}", f"--bs={client.block}", f"--iodepth={client.depth}"]
    words += [f"--number_ios={client.count}", f"--size={client.size}", "--end_fsync=1"]
    words += ["--io_size=1T", "--randseed=1", "--norandommap", "--output-format=json"]
    return words


def client_figures(place, setup):
    """What the client says itself."""
    output = os.path.join(place.directory, "client0.out")
    if setup.client.kind == "fio":
        with open(output, encoding="utf-8") as text:
            said = text.read()
        job = json.loads(said[said.index("{") :])["jobs"][0]  # Remarks may stand before it.
        return {"operations_per_second": job["write"]["iops"]}
    if setup.client.kind == "connect":
        with open(output, encoding="ascii") as text:
            connect, read, write = text.read().split()
        return {"connect_us": float(connect), "read_us": float(read), "write_us": float(write)}
    return {}


def system_calls(file):
    """Of strace -c: how often each was made, and together."""
    calls = {}
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            words = line.split()
            if len(words) >= 5 and words[3].isdigit():
                calls[words[-1]] = int(words[3])
    calls.setdefault("total", sum(calls.values()))
    return calls


# --- Draining -----------------------------------------------------------------


def fill_spool(place, setup, image):
    """Leaves the image in the spool, as an nbdkit does that is killed while there is no server.
    The next one sends it before it serves anybody."""
    log = os.path.join(place.directory, "nbdkit.log")
    client = [servers.need("nbdcopy", "libnbd-bin"), "--flush", image.path]
    with servers.serve(place, setup.but(delay_ms=0), image) as server:
        words, socket = nbdkit_words(place, setup, image, server)
        with processes.Process(words, log) as nbdkit:
            wait_for_nbdkit(place, nbdkit)
            server.vanish()
            run_together(place, [client + [f"nbd+unix:///?socket={socket}"]])
            nbdkit.stop(number=signal.SIGKILL)
