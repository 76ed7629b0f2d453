"""Sort photos into a folder per label: copy, link or move them, resume after a kill, undo.

The whole plan is written and synced before the first file is touched. Steps are synced by the thousand. With `move` to
another file system an original is removed only when its copy has been synced.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from inception_cli.actions.file_steps import FileSteps, Gone, Left, Outcome
from inception_cli.actions.places import Folders
from inception_cli.actions.sort_plan import (
    PLAN,
    Header,
    Method,
    Planner,
    Step,
    Tally,
    read_header,
    read_steps,
    read_tally,
    write_plan,
)
from inception_cli.config import NO_THRESHOLDS, Classes, Thresholds
from inception_cli.errors import InceptionError, excerpt, os_errors, os_reason, plural
from inception_cli.files.atomic import locked, remove_temporaries, sync_folder, writing
from inception_cli.files.file_kind import file_kind
from inception_cli.files.hashing import sha256
from inception_cli.predictions.formats import batched, read_predictions, shard_files
from inception_cli.predictions.prediction import Prediction

LOCK = ".inception-sort.lock"
#: Steps between two syncs of the disk.
STEPS_PER_SYNC = 1000
#: Files that are kept by name where something stays as it is.
MAX_LISTED = 1000
#: Errors that all further files would have, too.
_STOP = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_READABLE = "give the folder of a sort, which this user can read"
_OTHER_FOLDER = "choose another folder"

Progress = Callable[[int, int], None]


@dataclass
class Sorted:
    """The result of a sort, a dry run, or an undo."""

    into: Path
    method: Method
    tally: Tally
    resumed: bool = False  # the plan was there before
    done: int = 0  # files
    found: int = 0  # files whose step had been done before
    moved_any: bool = False  # whether one of these two is moved; the others are copies and links
    folders: set[str] = field(default_factory=set)  # of these two
    left: int = 0  # files
    left_files: list[tuple[str, str]] = field(default_factory=list)  # the first of them, with the reason
    gone: int = 0  # moved files that an undo has found neither in the folder nor where they came from
    gone_files: list[tuple[str, str]] = field(
        default_factory=list
    )  # the first of them: where they were moved, and from
    ended: bool = False  # nothing is left to undo
    free: int | None = None  # bytes on the target's file system; None: unknown

    @property
    def incomplete(self) -> bool:
        """Whether a photo that is to be sorted could not be, or a sorted one could not be put back."""
        return self.left > 0 or self.gone > 0 or bool(self.tally.left)


def sort(
    predictions: Path,
    name: str,
    into: Path,
    method: Method,
    directory: Path,
    progress: Progress = lambda *_: None,
    thresholds: Thresholds = NO_THRESHOLDS,
    classes: Classes | None = None,
) -> Sorted:
    """Sort the photos of a file of predictions into the folder `into`; the same call resumes an interrupted sort.

    `name` is how messages call the predictions, and `directory` is the folder to which relative paths belong. With
    `thresholds` rows of these `classes` are decided again.
    """
    with os_errors(into, _OTHER_FOLDER):
        created = not into.exists()
        into.mkdir(exist_ok=True)
    if created:
        sync_folder(into)
    root = Path(os.path.realpath(into))
    plan = root / PLAN
    try:
        with locked(root / LOCK, _OTHER_FOLDER):
            remove_temporaries(plan)
            resumed, digest = _has(plan), _digest(predictions)
            if resumed:
                _require_same(plan, digest, method, thresholds)
            else:
                planner, new_id = Planner(root, method, directory), secrets.token_hex(4)
                inode = root.stat().st_ino
                header = Header(name, digest, method, str(root), inode, created, new_id, str(thresholds))
                rows = _read(predictions, thresholds, classes)
                write_plan(plan, header, _not_empty(planner, predictions, rows), planner.tally)
            result = Sorted(root, method, read_tally(plan), resumed)
            _run(plan, result, progress, undo=False)
    finally:
        if created:
            _remove_empty(root)  # no plan has been written
    return result


def dry_run(
    predictions: Path,
    into: Path,
    method: Method,
    directory: Path,
    thresholds: Thresholds = NO_THRESHOLDS,
    classes: Classes | None = None,
) -> Sorted:
    """Return what `sort` would do, without changing anything."""
    root = Path(os.path.realpath(into))
    plan = root / PLAN
    if _has(plan):
        _require_same(plan, _digest(predictions), method, thresholds)
        return Sorted(root, method, read_tally(plan), resumed=True, free=_free(root))
    with os_errors(into, _OTHER_FOLDER):
        if not root.exists():
            root.parent.stat()
        planner = Planner(root, method, directory)
    for _ in _not_empty(planner, predictions, _read(predictions, thresholds, classes)):
        pass
    return Sorted(root, method, planner.tally, free=_free(root if root.exists() else root.parent))


def undo(into: Path, progress: Progress = lambda *_: None) -> Sorted:
    """Put everything back that a sort into this folder has done; files that have changed since stay.

    If moved files are gone, the plan is kept, so that they can be brought back; the next undo ends without them.
    """
    root = Path(os.path.realpath(into))
    plan = root / PLAN
    if not (_has(plan, _READABLE) or _has(root / LOCK, _READABLE)):
        raise _nothing_to_undo(into)
    with locked(root / LOCK, _OTHER_FOLDER):
        remove_temporaries(plan)
        if not _has(plan, _READABLE):
            raise _nothing_to_undo(into)
        header = read_header(plan)
        if header.into != str(root) and header.inode != root.stat().st_ino:
            raise InceptionError(f"{plan}: is of the folder {header.into}; move the folder back there to undo the sort")
        result = Sorted(root, header.method, read_tally(plan), resumed=True)
        _run(plan, result, progress, undo=True)
        if result.gone and not (result.moved_any or result.left):
            raise InceptionError(
                f"{result.gone_files[0][0]}: is gone, like all moved files ({result.gone:,}); move them back there and "
                f"undo again, or delete {PLAN} in {into}"
            )
        result.ended = not result.left and not (result.gone and result.done)
        if result.ended:
            with writing(plan):
                plan.unlink()
                sync_folder(plan)
    if header.created:
        _remove_empty(root)
    return result


def _run(plan: Path, result: Sorted, progress: Progress, undo: bool) -> None:
    """Do or undo all steps of a plan, and sync the disk after every thousand."""
    done, total = 0, result.tally.steps
    part = f".inception-sort-{read_header(plan).id}.part"
    with writing(result.into, _OTHER_FOLDER), Folders(result.into, part) as folders, ThreadPoolExecutor(1) as pool:
        disk = FileSteps(folders)
        act, finish = (disk.undo, disk.finish_undo) if undo else (disk.sort, disk.finish)
        progress(0, total)
        copied: list[Step] = []
        synced = pool.submit(lambda: None)
        for batch in batched(read_steps(plan), STEPS_PER_SYNC):
            found = result.found
            outcomes = []
            for step in batch:
                outcomes.append(_try(step, act, result, undo))
                done += 1
                progress(done, total)
            synced.result()
            for step in copied:  # of the batch before
                _try(step, finish, result, undo)
            if copied or result.found - found < len(batch):
                synced = pool.submit(os.sync)  # while the next batch is done
            copied = [step for step, outcome in zip(batch, outcomes, strict=True) if outcome is Outcome.COPIED]
        synced.result()
        for step in copied:
            _try(step, finish, result, undo)
        if undo:
            disk.remove_folders(result.tally.new_folders)
        if undo or copied:
            os.sync()


def _try(step: Step, action: Callable[[Step], Outcome], result: Sorted, undo: bool) -> Outcome | None:
    """Do or undo a step and count the outcome; None if its file stays as it is."""
    try:
        outcome = action(step)
    except Gone:
        result.gone += 1
        if len(result.gone_files) < MAX_LISTED:
            result.gone_files.append((_path(step, result, undo), step.source))
        return None
    except Left as left:
        reason = str(left)
    except OSError as error:
        if error.errno in _STOP:
            raise
        reason = os_reason(error)
    else:
        result.done += outcome is Outcome.DONE
        result.found += outcome is Outcome.FOUND
        result.moved_any |= step.method == "move"
        result.folders.add(step.folder)
        return outcome
    result.left += 1
    if len(result.left_files) < MAX_LISTED:
        result.left_files.append((_path(step, result, undo), reason))
    return None


def _path(step: Step, result: Sorted, undo: bool) -> str:
    """Return where the file of a step is before the step."""
    return str(result.into / step.folder / step.name) if undo else step.source


def _read(predictions: Path, thresholds: Thresholds, classes: Classes | None) -> Iterator[Prediction]:
    """Return the predictions in a file, decided again if there are thresholds."""
    if not thresholds or classes is None:
        return read_predictions(predictions)
    from inception_cli.predictions.retune import read_decided  # imports numpy

    return read_decided(predictions, thresholds, classes)


def _not_empty(planner: Planner, predictions: Path, rows: Iterable[Prediction]) -> Iterator[Step]:
    """Yield the steps of a plan; raise InceptionError if no row has a photo that can be sorted."""
    yield from planner.steps(rows)
    tally = planner.tally
    if tally.steps or tally.in_place:
        return
    if not tally.left:
        raise InceptionError(f"{predictions}: no row has a prediction: there is nothing to sort")
    raise InceptionError(
        f"{tally.left_examples[0]}: {next(iter(tally.left))}; none of {plural(sum(tally.left.values()), 'photo')} "
        f"can be sorted; run it where the photos were classified: relative paths are looked up in {planner.directory}"
    )


def _require_same(plan: Path, digest: str, method: Method, thresholds: Thresholds) -> None:
    """Raise InceptionError if the plan in the target folder is of another sort."""
    header = read_header(plan)
    if (header.sha256, header.method, header.thresholds) != (digest, method, str(thresholds)):
        options = f"--{header.method} {header.thresholds}".rstrip()
        raise InceptionError(
            f"{plan.parent}: holds a sort of {excerpt(Path(header.predictions).name)} ({options}); undo it (inception "
            f"sort --undo DIR), choose another folder, or delete its {PLAN} to keep the files for good"
        )


def _digest(predictions: Path) -> str:
    """Return the hash of a file of predictions, or of all files in a folder of shards."""
    with os_errors(predictions, "give a file that `inception classify` wrote"):
        if not predictions.is_dir():
            return sha256(predictions)
        digests = [f"{shard.name} {sha256(shard)}\n" for shard in shard_files(predictions)]
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def _has(file: Path, remedy: str = _OTHER_FOLDER) -> bool:
    """Return whether a file of a sort is in the target folder."""
    return file_kind(file, remedy) is not None


def _nothing_to_undo(into: Path) -> InceptionError:
    return InceptionError(f"{into}: holds no sort that can be undone; give the folder that --into named")


def _remove_empty(root: Path) -> None:
    with suppress(OSError):
        root.rmdir()


def _free(folder: Path) -> int | None:
    try:
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize
    except OSError:
        return None
