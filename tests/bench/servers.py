# SPDX-License-Identifier: BSD-3-Clause
"""The servers that images are sent to. One is started for each run, and stopped after it.

nginx      discards what it is sent, once it has read all of it, and answers as imageio does
memory     the project's test server, which keeps the image in memory
discard    the same, which discards it
nbd        the same, in front of a qemu-nbd, which writes a file
file       the same, in front of a file; for reads
static     nginx, which serves a file; for reads
imageio    a real ovirt-imageio that is running: IMAGEIO_URL, IMAGEIO_CA in the environment
none       no server at all, for floors
"""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field

import processes
from failure import Failure, Missing

ECHO_MODULE = "/usr/lib/nginx/modules/ngx_http_echo_module.so"
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def need(name, package=None):
    """The file of a program."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise Missing(f"{name} is not installed (package {package or name})")
    return found


def need_plugin(name, package):
    """Refuses to start nbdkit with a plugin that is not there."""
    found = subprocess.run(
        [need("nbdkit"), name, "--dump-plugin"], capture_output=True, timeout=30, check=False
    )
    if found.returncode != 0:
        raise Missing(f"nbdkit has no {name} plugin (package {package})")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Cost:
    """What a run has cost the server."""

    cpu_seconds: float = 0.0
    requests: Counter = field(default_factory=Counter)  # HTTP requests by kind.
    known: bool = True  # Whether there is a server of ours, which counts.


class Server:
    """What is common: where clients find it. `with` starts and ends it."""

    def __init__(self, place, setup, image):
        self.place = place  # The Place that is measured in.
        self.setup = setup
        self.image = image
        self.directory = place.directory
        self.unix_socket = None
        self.cafile = os.path.join(place.certificates, "ca.pem")
        self.port = 0
        self.cost = Cost()
        self._stack = ExitStack()

    def __enter__(self):
        with ExitStack() as stack:
            self._stack = stack
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *unused):
        self._stack.close()

    def start(self):
        """Starts what has to be started, and registers it at the stack."""

    def end(self):
        """Ends it in good order and knows its cost afterwards."""

    def log(self, name):
        return os.path.join(self.directory, f"{name}.log")

    def names(self):
        return [f"bench{number}" for number in range(self.setup.exports)]

    def urls(self):
        """One URL for each export."""
        scheme = "http" if self.setup.transport == "http" else "https"
        return [f"{scheme}://localhost:{self.port}/images/{name}" for name in self.names()]


class NoServer(Server):
    def start(self):
        self.cost.known = False

    def urls(self):
        return []


class TestServer(Server):
    """The project's own: with a ticket for each export."""

    def start(self):
        backend = self._backend()
        self.port = self.setup.port or 0
        port_file = os.path.join(self.directory, "port")
        if os.path.exists(port_file):
            os.unlink(port_file)
        arguments = [self.place.server_program, "--cert-dir", self.place.certificates, "--stats"]
        arguments += ["--port-file", port_file, "--delay-ms", self.setup.delay_ms]
        arguments += ["--listen", f"127.0.0.1:{self.port}"]
        arguments += ["--plain"] if self.setup.transport == "http" else []
        if self.setup.transport == "unix":
            self.unix_socket = os.path.join(self.directory, "server.sock")
            arguments += ["--unix", self.unix_socket]
        for name in self.names():
            arguments += ["--ticket", f"{name}={backend}"]
        self._statistics = self.log("server")
        open(self._statistics, "wb").close()
        self.process = self._stack.enter_context(processes.Process(arguments, self._statistics))
        processes.wait_until(
            lambda: os.path.exists(port_file) and os.path.getsize(port_file) > 0, self.process
        )
        with open(port_file, encoding="ascii") as file:
            self.port = int(file.read())

    def _backend(self):
        kind = self.setup.server
        if kind == "file":
            return f"file:{self.image.path},readonly"
        if kind != "nbd":
            return f"{kind}:{self.image.size},readers=8,writers=8"
        path = os.path.join(self.directory, "qemu.sock")
        disk = os.path.join(self.directory, "disk.raw")
        with open(disk, "wb") as file:
            file.truncate(self.image.size)
        self._stack.callback(os.unlink, disk)
        if os.path.exists(path):
            os.unlink(path)
        qemu = [need("qemu-nbd", "qemu-utils"), "--format=raw", "--persistent", "--shared=16"]
        qemu += ["--cache=writeback", "--discard=unmap", f"--socket={path}", disk]
        self._storage = self._stack.enter_context(processes.Process(qemu, self.log("qemu-nbd")))
        processes.wait_until(lambda: os.path.exists(path), self._storage)
        return f"nbd:unix:{path},readers=8,writers=8"

    def end(self):
        usage = self.process.stop()
        self.cost.cpu_seconds = usage.cpu_seconds
        with open(self._statistics, encoding="utf-8") as text:
            lines = [line for line in text if line.startswith("{")]
        if not lines:
            raise Failure(f"the test server tells no counters; {self.process.said()}")
        self.cost.requests.update(
            {kind: count for kind, count in json.loads(lines[-1])["requests"].items() if count}
        )

    def vanish(self):
        """As if the machine had lost its power."""
        self.process.stop(number=signal.SIGKILL)


class Nginx(Server):
    """nginx with a configuration of the suite's own.

    The echo module reads a body before anything is answered, into memory. A body that does not
    fit there, as only curl -T sends, is read and dropped by `return`, whose reply may come while
    the last megabytes are on their way: a floor, if anything, too low. nginx answers the test for a
    reverse proxy (POST) as imageio does, by closing the connection. Several workers, each with
    a listening socket of its own, so that the connections are spread over them.
    """

    def start(self):
        program = need("nginx", "nginx-light")
        if not os.path.exists(ECHO_MODULE):
            raise Missing("nginx has no echo module (package libnginx-mod-http-echo)")
        self.access = os.path.join(self.directory, "access.log")
        open(self.access, "wb").close()
        if self.setup.transport == "unix":
            self.unix_socket = os.path.join(self.directory, "nginx.sock")
            if os.path.exists(self.unix_socket):
                os.unlink(self.unix_socket)
        self.port = free_port()
        configuration = os.path.join(self.directory, "nginx.conf")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(self._configuration())
        arguments = [program, "-e", self.log("nginx"), "-p", self.directory, "-c", configuration]
        self.process = self._stack.enter_context(processes.Process(arguments, self.log("nginx")))
        processes.wait_until(lambda: listens(self.port), self.process)

    def _configuration(self):
        directory, size = self.directory, self.image.size
        static = self.setup.server == "static"
        options = {"features": ["extents", "zero", "flush"], "max_readers": 8, "max_writers": 8}
        if self.unix_socket:
            options["unix_socket"] = self.unix_socket
        extents = [{"start": 0, "length": size, "zero": not static, "hole": not static}]
        ssl = "" if self.setup.transport == "http" else " ssl"
        temporary = "\n".join(
            f"  {kind}_temp_path {directory}/nginx-{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        unix = f"listen unix:{self.unix_socket};" if self.unix_socket else ""
        # Workers with another user's rights could not look into the directory.
        user = "user root;" if os.getuid() == 0 else ""
        read = "if ($request_method ~ ^(GET|HEAD)$) { rewrite ^ /static last; }" if static else ""
        return f"""
{user} daemon off; worker_processes 8; pid {directory}/nginx.pid;
load_module {ECHO_MODULE};
events {{ worker_connections 512; }}
http {{
{temporary}
  log_format bench '$request_method';
  access_log {self.access} bench buffer=64k;
  client_max_body_size 0; client_body_buffer_size 40m;
  keepalive_requests 100000000; keepalive_timeout 600;
  default_type application/octet-stream;
  map $http_content_length $body {{ default small; "~^[4-9]\\d{{7}}$" large; "~^\\d{{9,}}$" large; }}
  server {{
    listen 127.0.0.1:{self.port}{ssl} reuseport backlog=256; {unix}
    ssl_certificate {self.place.certificates}/cert.pem;
    ssl_certificate_key {self.place.certificates}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    location = /done {{ return 200; }}
    location = /refused {{ keepalive_timeout 0; return 405; }}
    location = /static {{ alias {self.image.path}; }}
    location ~ /extents$ {{ return 200 '{json.dumps(extents)}'; }}
    location / {{
      if ($request_method = OPTIONS) {{ return 200 '{json.dumps(options)}'; }}
      if ($request_method = POST) {{ rewrite ^ /refused last; }}
      if ($body = large) {{ return 200; }}
      {read}
      echo_read_request_body;
      echo_exec /done;
    }}
  }}
}}
"""

    def end(self):
        # SIGQUIT lets the workers read what curl has sent after the reply that `return` makes
        # early, and write their last lines. The master's CPU time includes theirs.
        self.cost.cpu_seconds = self.process.stop(number=signal.SIGQUIT).cpu_seconds
        with open(self.access, encoding="ascii") as lines:
            self.cost.requests.update(line.strip().lower() for line in lines)


class Imageio(Server):
    """One that runs already. What it costs is not known."""

    def start(self):
        if not os.environ.get("IMAGEIO_URL"):
            raise Missing("no ovirt-imageio: IMAGEIO_URL is not set")
        self.cafile = os.environ.get("IMAGEIO_CA", "")
        self.cost.known = False

    def urls(self):
        return [os.environ["IMAGEIO_URL"]]


KINDS = {
    "nginx": Nginx,
    "static": Nginx,
    "memory": TestServer,
    "discard": TestServer,
    "nbd": TestServer,
    "file": TestServer,
    "imageio": Imageio,
    "none": NoServer,
}


def serve(place, setup, image):
    return KINDS[setup.server](place, setup, image)
