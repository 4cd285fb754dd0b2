"""A recorded run as a list of operations on the file system, and the folder that a crash after any of them leaves.

``Recorder`` stands in for ``os`` in the journal's module: it does what it is asked, skips the waiting of ``fsync``, and
writes down each operation. ``Folder`` plays operations back. Power loss is modelled as what POSIX allows: of the
writes to a file since its last fsync any pages may be missing, and of the operations on names since the folder's last
fsync any tail.
"""

import os
from pathlib import Path

PAGE = 4096


class Recorder:
    def __init__(self, folder: Path):
        self.folder = folder
        self.names = {name: name for name in os.listdir(folder)}  # name -> identity of the file behind it
        self.before = {name: (folder / name).read_bytes() for name in self.names}
        self.operations: list[tuple] = []
        self._open: dict[int, str] = {}

    def __getattr__(self, name):
        return getattr(os, name)

    def note(self, *operation) -> None:
        self.operations.append(operation)

    def open(self, path, flags, mode=0o777):
        fd = os.open(path, flags, mode)
        name = Path(path).name
        if flags & os.O_DIRECTORY:
            self._open[fd] = "folder"
            return fd
        if name not in self.names:
            self.names[name] = f"{name} made by operation {len(self.operations)}"
            self.note("create", name, self.names[name])
        elif flags & os.O_TRUNC:
            self.note("truncate", self.names[name], 0)
        self._open[fd] = self.names[name]
        return fd

    def close(self, fd):
        del self._open[fd]
        os.close(fd)

    def pwrite(self, fd, data, offset):
        self.note("write", self._open[fd], offset, bytes(data))
        return os.pwrite(fd, data, offset)

    def ftruncate(self, fd, size):
        self.note("truncate", self._open[fd], size)
        os.ftruncate(fd, size)

    def fsync(self, fd):
        self.note("fsync", self._open[fd])

    def rename(self, old, new):
        self.names[Path(new).name] = self.names.pop(Path(old).name)
        self.note("rename", Path(old).name, Path(new).name)
        os.rename(old, new)

    def unlink(self, path):
        os.unlink(path)
        del self.names[Path(path).name]
        self.note("unlink", Path(path).name)


class Folder:
    """Contents after operations: as processes see them, and what a power loss may have left."""

    def __init__(self, before: dict[str, bytes]):
        self.files = {name: bytearray(content) for name, content in before.items()}
        self.names = {name: name for name in before}
        self._durable = {name: bytes(content) for name, content in before.items()}
        self._unsynced: dict[str, list] = {name: [] for name in before}
        self._durable_names, self._name_operations = dict(self.names), []

    def play(self, operation) -> None:
        kind, *rest = operation
        if kind in ("write", "truncate"):
            name, *change = rest
            _change(self.files[name], *change)
            self._unsynced[name].append(change)
        elif kind == "fsync" and rest == ["folder"]:
            self._durable_names, self._name_operations = dict(self.names), []
        elif kind == "fsync":
            self._durable[rest[0]], self._unsynced[rest[0]] = bytes(self.files[rest[0]]), []
        elif kind in ("create", "rename", "unlink"):
            if kind == "create":
                self.files[rest[1]], self._durable[rest[1]], self._unsynced[rest[1]] = bytearray(), b"", []
            _rename(self.names, operation)
            self._name_operations.append(operation)

    def write(self, folder: Path) -> None:
        """Make a real folder hold what processes see."""
        self._write(folder, {name: self.files[file] for name, file in self.names.items()})

    def write_after_power_loss(self, folder: Path, rng) -> None:
        """Make a real folder hold what a power loss may have left."""
        names = dict(self._durable_names)
        for operation in self._name_operations[: rng.integers(len(self._name_operations) + 1)]:
            _rename(names, operation)
        kept = rng.choice([0.0, 0.5, 0.9, 1.0])
        contents = {}
        for name, file in names.items():
            contents[name] = bytearray(self._durable[file])
            for change in self._unsynced[file]:
                for part in _pages(*change):
                    if rng.random() < kept:
                        _change(contents[name], *part)
        self._write(folder, contents)

    def _write(self, folder: Path, contents) -> None:
        folder.mkdir(exist_ok=True)
        for left in folder.iterdir():
            left.unlink()
        for name, content in contents.items():
            (folder / name).write_bytes(content)


def _change(content: bytearray, where: int, data: bytes | None = None) -> None:
    """A write of data at an offset, or without data a truncation."""
    end = where if data is None else where + len(data)
    content.extend(bytes(max(0, end - len(content))))
    if data is None:
        del content[where:]
    else:
        content[where:end] = data


def _pages(where: int, data: bytes | None = None):
    if data is None:
        yield (where,)
        return
    start = 0
    while start < len(data):
        stop = min(len(data), (where + start) // PAGE * PAGE + PAGE - where)
        yield where + start, data[start:stop]
        start = stop


def _rename(names: dict[str, str], operation) -> None:
    match operation:
        case ("create", name, file):
            names[name] = file
        case ("rename", old, new):
            names[new] = names.pop(old)
        case ("unlink", name):
            names.pop(name, None)
