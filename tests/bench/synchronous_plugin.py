# SPDX-License-Identifier: BSD-3-Clause
"""nbdkit python synchronous_plugin.py url=URL size=N [cafile=FILE] [is_ovirt_host=true]

What one writes first when a disk is to be sent to ovirt-imageio: each NBD request is one HTTP
request, for which the thread waits, over one of a few connections. It is the suite's rival and
no more: it opens no connection again, and reports no failure of one that was idle.
"""

import errno
import http.client
import json
import queue
import socket
import ssl
import threading
from urllib.parse import urlsplit

import nbdkit

API_VERSION = 2
MOST_CONNECTIONS = 4

parameters = {}
features = []
pool = queue.LifoQueue()
members = []
one_flush = threading.Lock()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def config(key, value):
    parameters[key] = value


def config_complete():
    for key in ("url", "size"):
        if key not in parameters:
            raise RuntimeError(f"{key}= is missing")


def path():
    return urlsplit(parameters["url"]).path


def open_socket(address, *rest):
    """localhost is this host also where no file says so (RFC 6761, section 6.3)."""
    host, port = address
    return socket.create_connection(("127.0.0.1" if host == "localhost" else host, port), *rest)


def connect(unix_socket=None):
    if unix_socket:
        return UnixConnection(unix_socket)
    url = urlsplit(parameters["url"])
    if url.scheme == "http":
        connection = http.client.HTTPConnection(url.hostname, url.port)
    else:
        context = ssl.create_default_context(cafile=parameters.get("cafile"))
        connection = http.client.HTTPSConnection(url.hostname, url.port, context=context)
    connection._create_connection = open_socket
    return connection


def after_fork():
    """Asks what the server can do, and opens the connections."""
    first = connect()
    first.request("OPTIONS", path())
    offer = json.loads(answer(first))
    features.extend(offer.get("features", []))
    unix_socket = None
    if parameters.get("is_ovirt_host") == "true":
        unix_socket = offer.get("unix_socket")
    for number in range(min(MOST_CONNECTIONS, offer.get("max_writers", 1))):
        connection = connect(unix_socket) if number > 0 or unix_socket else first
        members.append(connection)
        pool.put(connection)


def answer(connection):
    response = connection.getresponse()
    body = response.read()
    if response.status >= 300:
        raise RuntimeError(f"status {response.status}: {body[:200]!r}")
    return body


def open(readonly):
    return 1


def get_size(handle):
    return int(parameters["size"])


def can_multi_conn(handle):
    return True


def can_flush(handle):
    return "flush" in features


def can_zero(handle):
    return "zero" in features


def can_fua(handle):
    return nbdkit.FUA_NATIVE if "flush" in features else nbdkit.FUA_NONE


def pread(handle, buffer, offset, flags):
    connection = pool.get()
    try:
        last = offset + len(buffer) - 1
        connection.request("GET", path(), headers={"Range": f"bytes={offset}-{last}"})
        response = connection.getresponse()
        if response.status not in (200, 206):
            raise RuntimeError(f"status {response.status}: {response.read()[:200]!r}")
        view = memoryview(buffer)
        while len(view) > 0:
            count = response.readinto(view)
            if count == 0:
                raise RuntimeError("the reply is too short")
            view = view[count:]
        response.read()
    finally:
        pool.put(connection)


def pwrite(handle, buffer, offset, flags):
    flush = "y" if flags & nbdkit.FLAG_FUA else "n"
    connection = pool.get()
    try:
        connection.putrequest("PUT", f"{path()}?flush={flush}")
        connection.putheader("Content-Length", str(len(buffer)))
        connection.putheader("Content-Range", f"bytes {offset}-{offset + len(buffer) - 1}/*")
        connection.endheaders()
        connection.send(buffer)
        answer(connection)
    finally:
        pool.put(connection)


def patch(connection, operation):
    body = json.dumps(operation).encode()
    connection.request("PATCH", path(), body, {"Content-Type": "application/json"})
    answer(connection)


def zero(handle, count, offset, flags):
    if "zero" not in features:
        nbdkit.set_error(errno.EOPNOTSUPP)
        raise RuntimeError("the server has no zero")
    connection = pool.get()
    try:
        flush = bool(flags & nbdkit.FLAG_FUA)
        patch(connection, {"op": "zero", "offset": offset, "size": count, "flush": flush})
    finally:
        pool.put(connection)


def flush(handle, flags):
    """A flush covers its own connection only, so all of them are taken, and flushed in turn."""
    with one_flush:
        taken = [pool.get() for _ in members]
        try:
            for connection in taken:
                patch(connection, {"op": "flush"})
        finally:
            for connection in taken:
                pool.put(connection)
