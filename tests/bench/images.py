# SPDX-License-Identifier: BSD-3-Clause
"""The images that are uploaded. Each is made when a case first needs it, in memory."""

import os
import random
import shutil
import tempfile
from dataclasses import dataclass

import processes
from failure import Failure, Missing

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
COPY_BYTES = 4 * MIB


@dataclass(frozen=True)
class Image:
    """A raw image in a file. Amounts are in bytes."""

    path: str
    size: int
    # The runs of data as (offset, length), looked up once: what a file system calls a hole may
    # change when it writes a file back to its disk.
    ranges: tuple

    @property
    def data(self):
        """What is not a hole."""
        return sum(length for _, length in self.ranges)

    @property
    def extents(self):
        return len(self.ranges)


def data_ranges(file):
    """The runs of data of a sparse file, as (offset, length), by lseek(2)."""
    end = os.fstat(file).st_size
    position = 0
    while position < end:
        try:
            start = os.lseek(file, position, os.SEEK_DATA)
        except OSError:
            return
        position = os.lseek(file, start, os.SEEK_HOLE)
        yield start, position - start


def look(path):
    """The Image of a file that is there."""
    file = os.open(path, os.O_RDONLY)
    try:
        ranges = tuple(data_ranges(file))
        size = os.fstat(file).st_size
    finally:
        os.close(file)
    return Image(path, size, ranges)


class Images:
    """Makes images by name, and removes those that are not needed any more.

    ext4            a file system of 2 GiB with 1 GiB of files of all sizes
    plain-N         N MiB of random data without a hole
    fragments-N     N KiB of data, N KiB of hole, and so on; thousands of them
    empty-N         N MiB of hole, for what writes at places of its own choice
    """

    def __init__(self, directory, quick):
        self._directory = directory
        self._quick = quick
        self._made = {}
        self._block = random.Random(1).randbytes(16 * MIB)

    def get(self, name):
        if name not in self._made:
            kind, _, number = name.partition("-")
            path = os.path.join(self._directory, name + ".raw")
            makers = {
                "ext4": self._ext4,
                "plain": self._plain,
                "fragments": self._fragments,
                "empty": self._empty,
            }
            makers[kind](path, int(number or 0))
            self._made[name] = look(path)
        return self._made[name]

    def parts(self, name, count):
        """The image's data without its holes, in so many files of about the same size."""
        image = self.get(name)
        paths = [f"{image.path}.{count}.{i}" for i in range(count)]
        if os.path.exists(paths[0]):
            return paths
        each = -(-image.data // count)
        source = os.open(image.path, os.O_RDONLY)
        outputs = [open(path, "wb") for path in paths]
        try:
            written = 0
            for offset, length in image.ranges:
                while length > 0:
                    room = each - written % each
                    piece = os.pread(source, min(length, COPY_BYTES, room), offset)
                    outputs[written // each].write(piece)
                    written += len(piece)
                    offset, length = offset + len(piece), length - len(piece)
        finally:
            os.close(source)
            for output in outputs:
                output.close()
        return paths

    def keep_only(self, names):
        """Removes all other images, and all parts."""
        for name in [name for name in self._made if name not in names]:
            del self._made[name]
        kept = {os.path.basename(image.path) for image in self._made.values()}
        for file in os.listdir(self._directory):
            if ".raw" in file and file not in kept:
                os.unlink(os.path.join(self._directory, file))

    def _ext4(self, path, _):
        files = path + ".files"
        try:
            self._make_files(files, 8 if self._quick else 968)
            with open(path, "wb") as image:
                image.truncate(32 * MIB if self._quick else 2 * GIB)
            program = shutil.which("mkfs.ext4", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
            if program is None:
                raise Missing("mkfs.ext4 is not installed (package e2fsprogs)")
            processes.run(
                [program, "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", "-d", files, path],
                path + ".log",
                120,
            )
        finally:
            shutil.rmtree(files, ignore_errors=True)

    def _make_files(self, directory, mib):
        """Files of 1 KiB to 16 MiB; as many bytes in small ones as in large ones."""
        os.mkdir(directory)
        choice = random.Random(2)
        left, number = mib * MIB, 0
        while left > 0:
            length = min(left, int(2 ** choice.uniform(10, 24)))
            start = choice.randrange(len(self._block))
            if number % 500 == 0:
                folder = os.path.join(directory, f"folder-{number // 500}")
                os.mkdir(folder)
            with open(os.path.join(folder, f"file-{number}"), "wb") as file:
                file.write(self._block[start : start + length])
                if start + length > len(self._block):
                    file.write(self._block[: start + length - len(self._block)])
            left, number = left - length, number + 1

    def _plain(self, path, mib):
        with open(path, "wb") as file:
            for left in range(mib, 0, -16):
                file.write(self._block[: min(left, 16) * MIB])

    def _fragments(self, path, kib):
        count = 64 if self._quick else 8192 if kib == 4 else 4096
        with open(path, "wb") as file:
            for i in range(count):
                start = i * 4099 % (len(self._block) - kib * KIB)
                file.seek(2 * i * kib * KIB)
                file.write(self._block[start : start + kib * KIB])
            file.truncate(2 * count * kib * KIB)

    def _empty(self, path, mib):
        with open(path, "wb") as file:
            file.truncate(mib * MIB)


def private_directory(parent=None):
    """A new directory; in memory if there is such a file system and no other wish."""
    if parent is None and os.path.isdir("/dev/shm"):
        parent = "/dev/shm"
    return tempfile.mkdtemp(prefix="upload-bench-", dir=parent)


def need_room(directory, size):
    """Refuses to fill the memory of the machine."""
    room = os.statvfs(directory)
    if room.f_bavail * room.f_frsize < size:
        raise Failure(f"{directory}: less than {size // MIB} MiB are free")
