"""The steps of a sort on disk: each can be repeated, and each can be undone.

What has been done is found by looking at the source and the target. Nothing is ever overwritten: a moved file gets its
name by a hard link, and a copy is a new file; both fail if the name exists. Class folders are opened once, without
following symbolic links, and files are named relative to them, so that no file is written outside of the target folder.
"""

import errno
import os
import stat
from contextlib import suppress
from enum import Enum, auto

from inception_cli.actions.places import BLOCK, Closing, Folders, Place, begin_alike, rename, sync
from inception_cli.actions.sort_plan import Step, is_plain_name

#: Units in ns in which file systems store times: FAT two seconds, ext3 and HFS+ one, exFAT 10 ms, SMB and NTFS 100 ns.
TIME_UNITS = (1, 100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000)
#: Permissions of a copy that is being written, `-w-------`, until all else of it is done: no other program reads half a
#: photo, and a resumed sort or an undo finds what a killed sort has begun.
UNFINISHED = 0o200
#: Errors of a kernel or file system that cannot copy by itself.
_NO_KERNEL_COPY = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EBADF}

TAKEN = "another file has the name of its target"
GONE = "the file has gone"
CHANGED_SOURCE = "it has changed since the plan was made"
CHANGED = "it has changed since it was sorted"
ONLY_COPY = "it is the only copy: the photo that it was copied from has gone"
ONLY_VERSION = "it is the only copy of this version: the photo that it was copied from has changed"
ONLY_FILE = "it is the only copy: where it was copied from there is a link to it"
PLACE_TAKEN = "another file is where it came from"


class Left(Exception):
    """A file is left as it is; the text is the reason."""


class Gone(Left):
    """A moved file is neither in the target folder nor where it came from."""


class Outcome(Enum):
    """What happened to a file in a step."""

    FOUND = auto()  # nothing: the step was done before
    DONE = auto()
    COPIED = auto()  # there are two of it; the original is removed when the copy has been synced


class FileSteps:
    """Does and undoes steps."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self._stores_permissions: dict[str, bool] = {}  # by folder of targets

    def sort(self, step: Step) -> Outcome:
        """Do a step; raise Left or OSError if its file stays where it is."""
        source, target = self.folders.source(step), self.folders.target(step, create=True)
        assert target
        match step.method:
            case "link":
                return _link(step, source, target)
            case "copy":
                assert source  # its folder need not be open
                return self._copy(step, source, target)
            case "move":
                return self._move(step, source, target)

    def undo(self, step: Step) -> Outcome:
        """Undo a step; raise Left or OSError if its file stays in the target folder."""
        source, target = self.folders.source(step), self.folders.target(step, create=False)
        now = target.status() if target else None
        if target and now and step.method != "move":
            _require_own(step, target, now, source)
            target.remove()
            return Outcome.DONE
        if target and now:
            return self._move_back(step, source, target, now)
        if step.method == "move" and not (source and source.status()):
            raise Gone(GONE)
        return Outcome.FOUND

    def finish(self, step: Step) -> Outcome:
        """Remove the original of a file that was copied to another file system, after syncing the copy."""
        source, target = self.folders.source(step), self.folders.target(step, create=False)
        return _replace_by_copy(step, source, target, CHANGED_SOURCE)

    def finish_undo(self, step: Step) -> Outcome:
        """Remove a target that was copied back to another file system, after syncing the copy."""
        source, target = self.folders.source(step), self.folders.target(step, create=False)
        return _replace_by_copy(step, target, source, CHANGED)

    def remove_folders(self, names: list[str]) -> None:
        """Remove folders in the target folder, except those that hold something."""
        for name in filter(is_plain_name, names):
            with suppress(OSError):
                os.rmdir(name, dir_fd=self.folders.root)

    def _copy(self, step: Step, source: Place, target: Place) -> Outcome:
        marked = self._can_mark(step, target)
        if marked:
            with suppress(FileExistsError):  # then look at what is there; most often there is nothing
                self._copy_file(step, source, target, marked)
                return Outcome.DONE
        now = target.status()
        if is_as_planned(now, step):
            return Outcome.FOUND
        was = source.status(follow_links=True)
        if was is None:
            raise Left(GONE)
        if now and not (_is_unfinished(now, step) or _is_torn(step, source, target, now)):
            raise Left(TAKEN)
        if not is_as_planned(was, step):  # then what has been copied of it is all that is left
            raise Left(CHANGED_SOURCE)
        if now:
            target.remove()
        self._copy_file(step, source, target, marked)
        return Outcome.DONE

    def _move(self, step: Step, source: Place | None, target: Place) -> Outcome:
        was, now = source.status() if source else None, target.status()
        if source is None or was is None:
            if now and (is_as_planned(now, step) or now.st_ino == step.inode):
                return Outcome.FOUND
            raise Left(GONE)
        if not is_as_planned(was, step):
            if is_as_planned(now, step):  # moved, and another file has got the old name
                return Outcome.FOUND
            raise Left(CHANGED_SOURCE)
        if now and _is_torn(step, source, target, now):
            target.remove()
            now = None
        if now is None:
            return self._transfer(step, source, target)
        if _are_copies(step, source, target):
            return Outcome.COPIED
        raise Left(TAKEN)

    def _move_back(self, step: Step, source: Place | None, target: Place, now: os.stat_result) -> Outcome:
        if not is_as_planned(now, step):
            raise Left(CHANGED)
        if source is None or source.status() is None:
            source = self.folders.source(step, create=True)
            assert source
            return self._transfer(step, target, source)
        if _are_copies(step, source, target):
            return Outcome.COPIED
        raise Left(PLACE_TAKEN)

    def _transfer(self, step: Step, source: Place, target: Place) -> Outcome:
        """Give a file another name; where that is on another file system, copy it."""
        try:
            rename(source, target)
            return Outcome.DONE
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        self._copy_file(step, source, target, marked=False)
        return Outcome.COPIED

    def _part(self, target: Place) -> Place:
        return Place(target.folder, self.folders.part)

    def _can_mark(self, step: Step, target: Place) -> bool:
        """Return whether a copy can be marked as unfinished: the folder stores permissions, which is tried once."""
        if step.folder not in self._stores_permissions:
            part = self._part(target)
            with Closing(part.create(UNFINISHED)) as file:
                part.remove()
                self._stores_permissions[step.folder] = stat.S_IMODE(os.fstat(file).st_mode) == UNFINISHED
        return self._stores_permissions[step.folder] and step.mode != UNFINISHED

    def _copy_file(self, step: Step, source: Place, target: Place, marked: bool) -> None:
        """Copy the bytes, the owner, the times and the extended attributes; the permissions and the name are last."""
        place = target if marked else self._part(target)
        with Closing(place.create(UNFINISHED if marked else 0o600)) as new:
            try:
                with Closing(_open_source(source)) as old:
                    _copy_content(old, new, step)
                try:
                    os.fchmod(new, step.mode)
                except PermissionError:  # FAT stores none
                    if marked:
                        raise
                if not marked:
                    rename(place, target)
            except BaseException:
                with suppress(FileNotFoundError):
                    place.remove()
                raise


def _replace_by_copy(step: Step, original: Place | None, copy: Place | None, reason: str) -> Outcome:
    """Sync a copy and remove the original, unless one of them has changed; `reason` says that."""
    if original is None or copy is None:
        raise Left(GONE)
    sync(copy)
    if not (is_as_planned(original.status(), step) and is_as_planned(copy.status(), step)):
        raise Left(reason)
    original.remove()
    return Outcome.DONE


def is_as_planned(status: os.stat_result | None, step: Step) -> bool:
    """Return whether a file has the size and the time of the plan, as far as its file system can store the time."""
    return (
        status is not None
        and stat.S_ISREG(status.st_mode)
        and status.st_size == step.size
        and _is_same_time(step.mtime, status.st_mtime_ns)
        and not _is_unfinished(status, step)
    )


def _is_unfinished(status: os.stat_result, step: Step) -> bool:
    """Return whether a target is a copy that a killed sort has begun."""
    return status.st_mode == stat.S_IFREG | UNFINISHED and step.method == "copy" and step.mode != UNFINISHED


def _is_same_time(planned: int, found: int) -> bool:
    return planned == found or any(planned - planned % unit == found for unit in TIME_UNITS)


def _link(step: Step, source: Place | None, target: Place) -> Outcome:
    now = target.status()
    if _is_link_to(step, target, now):
        return Outcome.FOUND
    if now:
        raise Left(TAKEN)
    if source is None or source.status() is None:
        raise Left(GONE)
    os.symlink(step.source, target.name, dir_fd=target.folder)
    return Outcome.DONE


def _is_link_to(step: Step, target: Place, status: os.stat_result | None) -> bool:
    return (
        status is not None
        and stat.S_ISLNK(status.st_mode)
        and os.readlink(target.name, dir_fd=target.folder) == step.source
    )


def _require_own(step: Step, target: Place, now: os.stat_result, source: Place | None) -> None:
    """Raise Left unless a target is the link or the copy that the sort has made, and its source still exists."""
    if step.method == "link":
        if not _is_link_to(step, target, now):
            raise Left(CHANGED)
        return
    if not (is_as_planned(now, step) or _is_unfinished(now, step)):
        raise Left(CHANGED)
    _require_kept(step, target, now, source)


def _require_kept(step: Step, target: Place, now: os.stat_result, source: Place | None) -> None:
    """Raise Left unless the photo of a copy still is at its source, as another file than the copy.

    One that only got another time is compared byte for byte.
    """
    was = source.status(follow_links=True) if source else None
    if source is None or was is None:
        raise Left(ONLY_COPY)
    if os.path.samestat(was, now):
        entry = source.status()
        if entry is None or stat.S_ISLNK(entry.st_mode) or not _are_two_names(source, target, now):
            raise Left(ONLY_FILE)
    elif not is_as_planned(was, step):
        same_size = stat.S_ISREG(was.st_mode) and was.st_size == now.st_size == step.size
        if not (same_size and begin_alike(source, target, step.size)):
            raise Left(ONLY_VERSION)


def _are_copies(step: Step, source: Place, target: Place) -> bool:
    """Return whether source and target are the planned file twice: copied, or halfway through a renaming."""
    was, now = source.status(), target.status()
    if was is None or now is None or not (is_as_planned(was, step) and is_as_planned(now, step)):
        return False
    if os.path.samestat(was, now):
        return _are_two_names(source, target, now)
    return begin_alike(source, target, step.size)


def _are_two_names(source: Place, target: Place, status: os.stat_result) -> bool:
    """Return whether source and target, which are one file, are two hard links to it.

    One name seen through two mounts is one file with a single link; or a link leads to the folder that has the name.
    """
    folder, _, name = source.name.rpartition("/")
    of_source, of_target = os.stat(folder or ".", dir_fd=source.folder), os.fstat(target.folder)
    return status.st_nlink > 1 and not (name == target.name and os.path.samestat(of_source, of_target))


def _is_torn(step: Step, source: Place, target: Place, now: os.stat_result) -> bool:
    """Return whether a target is an unfinished copy: after a power cut a file may lack data that was not synced."""
    return (
        stat.S_ISREG(now.st_mode)
        and now.st_size < step.size
        and _is_same_time(step.mtime, now.st_mtime_ns)
        and begin_alike(source, target, now.st_size)
    )


def _copy_bytes(old: int, new: int, size: int) -> None:
    """Copy the first `size` bytes of a file from descriptor to descriptor, in the kernel where that is possible."""
    copied = 0
    try:
        while copied < size and (count := os.copy_file_range(old, new, size - copied)):
            copied += count
    except AttributeError:  # macOS
        pass
    except OSError as error:
        if copied or error.errno not in _NO_KERNEL_COPY:
            raise
    while copied < size and (block := os.read(old, min(BLOCK, size - copied))):
        copied += len(block)
        while block:
            block = block[os.write(new, block) :]


def _open_source(source: Place) -> int:
    try:
        return source.open()
    except FileNotFoundError:
        raise Left(GONE) from None


def _copy_content(old: int, new: int, step: Step) -> None:
    """Copy the bytes, the owner, the times and the extended attributes of a file, as far as possible."""
    status, created = os.fstat(old), os.fstat(new)
    if not is_as_planned(status, step):
        raise Left(CHANGED_SOURCE)
    _copy_bytes(old, new, step.size)
    if not is_as_planned(os.fstat(old), step):
        raise Left(CHANGED_SOURCE)
    if (created.st_uid, created.st_gid) != (status.st_uid, status.st_gid):
        with suppress(OSError):
            os.fchown(new, status.st_uid, status.st_gid)
    os.utime(new, ns=(status.st_atime_ns, step.mtime))
    for name in _attributes(old):
        with suppress(OSError):
            os.setxattr(new, name, os.getxattr(old, name))


def _attributes(file: int) -> list[str]:
    """Return the names of the extended attributes of a file; none where Python or the file system has none."""
    try:
        return os.listxattr(file)
    except (OSError, AttributeError):  # macOS: Python has no function for them
        return []
