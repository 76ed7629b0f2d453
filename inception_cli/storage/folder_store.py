"""A folder of Parquet shards, on this machine or in an object store: each shard is there completely or not at all.

    preds/_inputs              the paths, each followed by a NUL; a resumed run does not search folders again
    preds/_run.json            the manifest of the unfinished run
    preds/part-00000.parquet   the rows of the first shard, in the order of the list
    preds/_manifest.json       the manifest of the finished run

The files are created in this order; at the end `_run.json` and `_inputs` are removed. Readers of Parquet folders skip
names that begin with `_`. A file gets its name by a rename, in an object store by a single put, which is atomic there.
Two runs on one folder at the same time do the work twice, but write the same rows: each has its own names for files
that it is writing, `_part-00000.parquet.1a2b3c4d.tmp`.
"""

import hashlib
import io
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from inception_cli.errors import InceptionError, one_line, plural
from inception_cli.files.remote import open_store
from inception_cli.predictions.formats import convert
from inception_cli.predictions.prediction import Prediction, columns_of, reason
from inception_cli.storage.input_list import InputList
from inception_cli.storage.manifest_json import FORMAT_VERSION
from inception_cli.storage.store import FOLDER_MANIFEST, FOLDER_UNFINISHED, FolderState, Manifest

INPUTS = "_inputs"
OBJECT_STORES = ("s3", "gcs", "abfs")  # pyarrow's names of stores that put a file atomically
READERS = 16  # shards that are read at once when a run resumes
_SHARD = re.compile(r"part-\d{5,}\.parquet")
_TEMPORARY = re.compile(r"_(part-\d{5,}\.parquet|_inputs|_run\.json|_manifest\.json)(\.[0-9a-f]{8})?\.tmp")


def shard_size(images: int, images_per_batch: int) -> int:
    """Return the images of a shard: 1,000 in small runs, 10,000 from ten million on, rounded up to whole batches."""
    return -(-min(max(images // 1000, 1000), 10_000) // images_per_batch) * images_per_batch


def shard_name(shard: int) -> str:
    """Return the file name of a shard."""
    return f"part-{shard:05}.parquet"


class FolderStore:
    """The folder `out` of a run (see RunStore)."""

    def __init__(self, out: str) -> None:
        self.out = self.name = out
        self.manifest: Manifest | None = None
        self.finished = False
        self._state = FolderState(0, "", 1)
        self._inputs = InputList(b"")
        self._top_k, self._decided = 0, False
        self._written: dict[int, Counter[tuple[str, str]]] = {}  # rows of each shard by status and reason
        self._batches: dict[int, dict[int, Sequence[Prediction]]] = {}  # shard → position → predictions
        self._store, self._folder = open_store(out)
        self._leftovers: set[str] = set()  # files that killed runs were writing

    @classmethod
    def open(cls, out: str, *, restart: bool = False, force: bool = False) -> Self:
        """Find out how far the run that writes `out` got.

        `restart` discards an interrupted run, `force` a finished one. Raises InceptionError when it is finished, when
        it is damaged, or when the folder holds something else.
        """
        store = cls(out)
        with store._errors():
            names = store._names()
            shards, runs = set(filter(_SHARD.fullmatch, names)), names & {FOLDER_UNFINISHED, FOLDER_MANIFEST}
            others = [name for name in names - shards if not name.startswith(("_", "."))]
            if others or not (runs or store._have_rows(shards)):
                raise InceptionError(f"{out} holds other files: choose a new folder for --out")
            store._leftovers = set(filter(_TEMPORARY.fullmatch, names))
            if FOLDER_UNFINISHED not in names and FOLDER_MANIFEST in names and not force:
                raise InceptionError(f"{out} holds a finished run; --force replaces it")
            if FOLDER_UNFINISHED in names and not restart:
                store._read_state()
            elif shards and not runs and not restart:
                raise _damaged(f"{out}/{FOLDER_UNFINISHED}", "is missing")
            else:
                store._discard(names)
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def open_inputs(self, discover: Callable[[], Iterable[str]]) -> InputList:
        """Return the list of inputs: that of the interrupted run, else the discovered one."""
        self._inputs = InputList(self._read_inputs()) if self.manifest else InputList.of(discover())
        if self.manifest and len(self._inputs) != self._state.images:
            problem = f"folder.images is {self._state.images}, but the list has {len(self._inputs)}"
            raise _damaged(f"{self.out}/{FOLDER_UNFINISHED}", f"is damaged ({problem})")
        return self._inputs

    def begin(self, manifest: Manifest) -> Counter[tuple[str, str]]:
        """Start the run, or resume it after its whole shards; return the rows that are there by status and reason."""
        self._top_k, self._decided = manifest.run.top_k, bool(manifest.run.thresholds)
        if self.manifest:
            self._written = self._read_shards()
            return sum(self._written.values(), Counter())
        data = self._inputs.encoded(range(len(self._inputs)))
        size = shard_size(len(self._inputs), manifest.run.images_per_batch)
        self._state = FolderState(len(self._inputs), hashlib.sha256(data).hexdigest(), size)
        with self._errors():
            if self._store.type_name not in OBJECT_STORES:
                self._store.create_dir(self._folder, recursive=True)
            self._put(INPUTS, data)
        self.update(manifest)
        return Counter()

    def pending(self) -> list[range]:
        """Return the positions of the shards that are not written yet."""
        return [positions for shard, positions in self._shards().items() if shard not in self._written]

    def write(self, first: int, predictions: Sequence[Prediction], arrays: Sequence[object] = ()) -> None:
        """Keep a batch, of any shard; a shard whose batches are all there is written."""
        shard = first // self._state.shard_size
        batches = self._batches.setdefault(shard, {})
        batches[first] = predictions
        if sum(map(len, batches.values())) < len(self._shards()[shard]):
            return
        rows = [row for _, batch in sorted(self._batches.pop(shard).items()) for row in batch]
        file = io.BytesIO()
        convert(rows, self._top_k, file, ".parquet", self._decided)
        with self._errors():
            self._put(shard_name(shard), file.getvalue())
        self._written[shard] = Counter((row.status, reason(row.error)) for row in rows)

    def update(self, manifest: Manifest) -> None:
        """Write the manifest of the unfinished run."""
        with self._errors():
            self._put(FOLDER_UNFINISHED, replace(manifest, folder=self._state).encode())

    def publish(self, manifest: Manifest) -> None:
        """Write the manifest of the finished run; InceptionError unless every input has its row."""
        rows = sum(counts.total() for counts in self._written.values())
        if rows != self._state.images:
            raise InceptionError(
                f"{self.out}: {plural(rows, 'row')} for {plural(self._state.images, 'input')}; use --restart"
            )
        with self._errors():
            self._put(FOLDER_MANIFEST, replace(manifest, folder=self._state).encode())
            for name in (FOLDER_UNFINISHED, INPUTS, *self._leftovers):
                with suppress(FileNotFoundError):  # another run on this folder was faster
                    self._store.delete_file(self._path(name))

    def _shards(self) -> dict[int, range]:
        """Return the positions of each shard's images in the list."""
        starts = range(0, self._state.images, self._state.shard_size)
        return {
            shard: range(first, min(first + self._state.shard_size, self._state.images))
            for shard, first in enumerate(starts)
        }

    def _read_state(self) -> None:
        """Read the manifest of the interrupted run."""
        try:
            manifest = Manifest.decode(self._get(FOLDER_UNFINISHED))
        except ValueError as error:
            raise _damaged(f"{self.out}/{FOLDER_UNFINISHED}", f"is damaged ({error})") from error
        if manifest.folder is None:
            older = manifest.format_version < FORMAT_VERSION
            problem = "was written by an older version of inception" if older else "is damaged (folder is null)"
            raise _damaged(f"{self.out}/{FOLDER_UNFINISHED}", problem)
        if manifest.folder.shard_size != (size := shard_size(manifest.folder.images, manifest.run.images_per_batch)):
            problem = f"is damaged (folder.shard_size is {manifest.folder.shard_size}, not {size})"
            raise _damaged(f"{self.out}/{FOLDER_UNFINISHED}", problem)
        self.manifest, self._state = manifest, manifest.folder

    def _read_inputs(self) -> bytes:
        with self._errors():
            data = self._get(INPUTS)
        if hashlib.sha256(data).hexdigest() != self._state.inputs_sha256:
            raise _damaged(f"{self.out}/{INPUTS}", "is damaged")
        return data

    def _read_shards(self) -> dict[int, Counter[tuple[str, str]]]:
        """Return the rows, by status and reason, of each shard that is there completely."""
        shards = self._shards()
        with self._errors():
            names = self._names()
        there = [shard for shard in shards if shard_name(shard) in names]
        with ThreadPoolExecutor(READERS) as pool:
            counts = dict(zip(there, pool.map(self._count_rows, there), strict=True))
        return {shard: count for shard, count in counts.items() if count.total() == len(shards[shard])}

    def _count_rows(self, shard: int) -> Counter[tuple[str, str]]:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table

        try:
            table = read_table(self._path(shard_name(shard)), columns=["status", "error"], filesystem=self._store)
        except (ArrowException, OSError):
            return Counter()
        statuses, errors = (table[name].to_pylist() for name in ("status", "error"))
        return Counter((status, reason(error or "")) for status, error in zip(statuses, errors, strict=True))

    def _have_rows(self, shards: set[str]) -> bool:
        """Return whether all of these files have the columns of predictions, not only the names of shards."""
        with ThreadPoolExecutor(READERS) as pool:
            return all(pool.map(self._has_rows, shards))

    def _has_rows(self, name: str) -> bool:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_schema

        try:
            return columns_of(read_schema(self._path(name), filesystem=self._store).names) != (0, False)
        except (ArrowException, OSError):
            return False

    def _discard(self, names: set[str]) -> None:
        # The manifests first: beside some shards they would be taken for those of a whole run.
        for name in (FOLDER_MANIFEST, FOLDER_UNFINISHED, INPUTS, *filter(_SHARD.fullmatch, names), *self._leftovers):
            if name in names:
                self._store.delete_file(self._path(name))

    def _names(self) -> set[str]:
        from pyarrow.fs import FileSelector, FileType

        if self._store.get_file_info(self._folder).type == FileType.File:
            raise InceptionError(f"{self.out} is a file; --engine ray writes a folder")
        entries = self._store.get_file_info(FileSelector(self._folder, allow_not_found=True))
        return {entry.base_name for entry in entries}

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _get(self, name: str) -> bytes:
        with self._store.open_input_file(self._path(name)) as file:
            data: bytes = file.read()
        return data

    def _put(self, name: str, data: bytes) -> None:
        if self._store.type_name in OBJECT_STORES:
            self._write_file(self._path(name), data)
            return
        temporary = self._path(f"_{name}.{secrets.token_hex(4)}.tmp")
        try:
            self._write_file(temporary, data)
            self._store.move(temporary, self._path(name))
        except BaseException:
            with suppress(OSError):
                self._store.delete_file(temporary)
            raise

    def _write_file(self, path: str, data: bytes) -> None:
        with self._store.open_output_stream(path) as file:
            file.write(data)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn an OSError into an InceptionError."""
        try:
            yield
        except OSError as error:
            raise InceptionError(
                f"{self.out}: {one_line(error, limit=1000)}; fix that, or choose another --out"
            ) from error


def _damaged(file: str, problem: str) -> InceptionError:
    return InceptionError(f"{file} {problem}: the interrupted run cannot resume; --restart starts it again")
