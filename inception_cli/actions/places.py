"""Files in open folders: named relative to a descriptor, so that no symbolic link leads elsewhere."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from inception_cli.actions.sort_plan import Step

#: Folders of sources, and folders of targets, that are open at the same time.
MAX_OPEN = 64
#: Bytes that are read at once.
BLOCK = 1 << 20
#: Errors of a file system without hard links.
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Place(NamedTuple):
    """A name in an open folder."""

    folder: int  # descriptor
    name: str

    def status(self, follow_links: bool = False) -> os.stat_result | None:
        """Return the status of the file, with `follow_links` of what a link leads to; None if there is none."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=follow_links)
        except FileNotFoundError:
            return None

    def remove(self) -> None:
        """Remove the file."""
        os.unlink(self.name, dir_fd=self.folder)

    def open(self) -> int:
        """Return a descriptor of the file, to read it."""
        return os.open(self.name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder)

    def create(self, mode: int) -> int:
        """Create the file with these permissions and return a descriptor; FileExistsError if the name exists."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.name, flags, mode, dir_fd=self.folder)


class Folders:
    """The folders of sources and targets, open while they are used."""

    def __init__(self, root: Path, part: str) -> None:
        """Open the target folder; `part` is the name of unfinished copies, which are removed where they are found."""
        self.part = part
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self._targets: dict[str, int] = {}
        self._sources: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in (*self._targets.values(), *self._sources.values(), self.root):
            os.close(folder)

    def target(self, step: Step, create: bool) -> Place | None:
        """Return the target of a step; None if its folder does not exist and is not to be created."""
        if step.folder not in self._targets and create:
            with suppress(FileExistsError):
                os.mkdir(step.folder, dir_fd=self.root)
        return self._place(self._targets, step.folder, step.name)

    def source(self, step: Step, create: bool = False) -> Place | None:
        """Return the source of a step; None if its folder does not exist and is not to be created.

        A photo that is copied or linked is only read: its folder need not be open.
        """
        if step.method != "move":
            return Place(self.root, step.source)  # an absolute path, to which the open folder makes no difference
        folder, _, name = step.source.rpartition("/")
        if create:
            Path(folder or "/").mkdir(parents=True, exist_ok=True)
        return self._place(self._sources, folder or "/", name)

    def _place(self, folders: dict[str, int], folder: str, name: str) -> Place | None:
        """Return a file in a folder, which stays open until a step needs another folder of the same kind."""
        if folder not in folders:
            if len(folders) >= MAX_OPEN:
                os.close(folders.pop(next(iter(folders))))
            try:
                folders[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.root)
            except FileNotFoundError:
                return None
            with suppress(OSError):  # what a killed sort left; most often there is nothing
                Place(folders[folder], self.part).remove()
        return Place(folders[folder], name)


def rename(source: Place, target: Place) -> None:
    """Give a file another name without overwriting: a hard link fails if the name exists."""
    folders = {"src_dir_fd": source.folder, "dst_dir_fd": target.folder}
    try:
        os.link(source.name, target.name, **folders, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if target.status():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        os.rename(source.name, target.name, **folders)  # noqa: PTH104
        return
    try:
        source.remove()
    except OSError:
        target.remove()
        raise


def begin_alike(first: Place, second: Place, size: int) -> bool:
    """Return whether two files have the same first `size` bytes."""
    with _stream(first) as one, _stream(second) as two:
        while size > 0:
            block = one.read(min(BLOCK, size))
            if not block or block != two.read(min(BLOCK, size)):
                return False
            size -= len(block)
    return True


def sync(place: Place) -> None:
    """Flush a file and its folder to the disk."""
    with Closing(place.open()) as descriptor:
        os.fsync(descriptor)
    with suppress(OSError):
        os.fsync(place.folder)


class Closing:
    """Close a descriptor at the end of the block; `contextmanager` would take over three times as long."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def _stream(place: Place) -> BinaryIO:
    return open(place.open(), "rb")  # noqa: PTH123
