"""A run on a cluster, on disk or in a store: a folder of numbered Parquet parts, each there whole or not at all.

    preds/_inputs              the paths, each ended by a NUL: what the run is about, never listed again
    preds/_run.json            the manifest of a run under way: what it was asked
    preds/part-00000.parquet   the rows of the first shard, in the list's order
    preds/_manifest.json       the manifest of a finished run

They come into being in that order; then `_run.json` and `_inputs` go. Readers of Parquet folders pass over names that
begin with `_`. A file comes into its place by a rename, or in an object store by one put, which is atomic there. Two
runs at a time waste work, but write the same rows.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from inception_cli.errors import InceptionError
from inception_cli.results.formats import convert
from inception_cli.results.rows import Prediction, csv_header, parse_csv
from inception_cli.stores import locate

FINISHED, UNDER_WAY, INPUTS = "_manifest.json", "_run.json", "_inputs"
OBJECT_STORES = ("s3", "gcs", "abfs")  # pyarrow's names of those that put a file whole
READERS = 16  # parts that are looked at together when a run goes on


def shard_size(images: int, per_batch: int) -> int:
    """Images of a part: 1,000 in small runs, 10,000 in those over ten million, rounded up to whole batches."""
    return -(-min(max(images // 1000, 1000), 10_000) // per_batch) * per_batch


def part_name(shard: int) -> str:
    """The file of a shard's rows."""
    return f"part-{shard:05}.parquet"


class Parts:
    """The folder of a run; made by `Parts.open`."""

    def __init__(self, out: str) -> None:
        self.out = out
        self.manifest: dict[str, Any] | None = None  # of the interrupted run; None: a fresh start
        self.section: dict[str, Any] = {}  # the parts' own of the manifest
        self.images = self.size = 0  # images of the run, and of a shard
        self._store, self._folder = locate(out)
        self._pending: dict[int, dict[int, list[Prediction]]] = {}  # shard → position → rows of a batch

    @classmethod
    def open(cls, out: str, *, restart: bool = False, force: bool = False) -> Self:
        """Find out how far the run that writes `out` is.

        `restart` throws an interrupted run away, `force` a finished one. InceptionError when it is finished, when it is
        damaged, or when the folder holds something else.
        """
        parts = cls(out)
        with parts._telling():
            names = parts._names()
            if any(not name.startswith(("_", ".", "part-")) for name in names):
                raise InceptionError(f"{out} holds other files: choose a new folder for --out")
            if UNDER_WAY not in names and FINISHED in names and not force:
                raise InceptionError(f"{out} holds a finished run; --force replaces it")
            if UNDER_WAY in names and not restart:
                parts._take_up()
            elif UNDER_WAY not in names and FINISHED not in names and any(map(_is_part, names)) and not restart:
                raise InceptionError(f"{out}: {UNDER_WAY} is lost, so that run cannot go on; --restart begins it anew")
            else:
                parts._discard(names)
        return parts

    def begin(self, manifest: dict[str, Any], inputs: bytes, per_batch: int) -> None:
        """Write list and manifest of a fresh start: from now on a kill is an interruption."""
        self.images = inputs.count(b"\0")
        self.size = shard_size(self.images, per_batch)
        digest = hashlib.sha256(inputs).hexdigest()
        self.section = {"images": self.images, "size": self.size, "inputs_sha256": digest}
        with self._telling():
            if self._store.type_name not in OBJECT_STORES:
                self._store.create_dir(self._folder, recursive=True)
            self._put(INPUTS, inputs)
            self._put(UNDER_WAY, _json(manifest | {"parts": self.section}))

    def inputs(self) -> bytes:
        """The list of the interrupted run."""
        with self._telling():
            data = self._get(INPUTS)
        if hashlib.sha256(data).hexdigest() != self.section["inputs_sha256"]:
            raise InceptionError(f"{self.out}/{INPUTS} is damaged, so that run cannot go on; --restart begins it anew")
        return data

    @property
    def shards(self) -> dict[int, range]:
        """The positions of each shard's images in the list."""
        starts = range(0, self.images, self.size)
        return {shard: range(first, min(first + self.size, self.images)) for shard, first in enumerate(starts)}

    def done(self) -> dict[int, Counter[str]]:
        """The shards that have their part, and its rows by status; a part that is not whole is none."""
        shards = self.shards
        with self._telling():
            names = self._names()
        found = [shard for shard in shards if part_name(shard) in names]
        with ThreadPoolExecutor(READERS) as pool:
            counts = dict(zip(found, pool.map(self._statuses, found), strict=True))
        return {shard: count for shard, count in counts.items() if count.total() == len(shards[shard])}

    def add(self, position: int, rows: bytes, k: int) -> list[Prediction]:
        """Keep a batch's rows, CSV with `k` classes each, from `position` on; a shard that is whole is written."""
        shard = position // self.size
        pending = self._pending.setdefault(shard, {})
        pending[position] = batch = [*parse_csv(io.BytesIO(csv_header(k) + rows), Path(self.out))]
        if sum(map(len, pending.values())) == len(self.shards[shard]):
            whole = (row for _, some in sorted(self._pending.pop(shard).items()) for row in some)
            file = io.BytesIO()
            convert(whole, k, file, ".parquet")
            with self._telling():
                self._put(part_name(shard), file.getvalue())
        return batch

    def publish(self, manifest: dict[str, Any]) -> None:
        """Put the manifest in its place, after every shard has its part."""
        with self._telling():
            self._put(FINISHED, _json(manifest | {"parts": self.section}))
            for name in (UNDER_WAY, INPUTS):
                with suppress(FileNotFoundError):  # another run of the same was sooner
                    self._store.delete_file(self._path(name))

    def _take_up(self) -> None:
        """Go on with an interrupted run."""
        try:
            self.manifest = json.loads(self._get(UNDER_WAY))
            self.section = self.manifest["parts"]
            self.images, self.size = self.section["images"], self.section["size"]
        except (ValueError, KeyError, TypeError) as error:
            raise InceptionError(
                f"{self.out}/{UNDER_WAY} is damaged, so that run cannot go on; --restart begins it anew"
            ) from error

    def _discard(self, names: set[str]) -> None:
        # The manifests first: beside some parts they would be taken for those of a whole run.
        for name in (FINISHED, UNDER_WAY, INPUTS, *filter(_is_part, names)):
            if name in names:
                self._store.delete_file(self._path(name))

    def _names(self) -> set[str]:
        from pyarrow.fs import FileSelector, FileType

        found = self._store.get_file_info(self._folder)
        if found.type == FileType.File:
            raise InceptionError(f"{self.out} is a file: a run on a cluster writes a folder")
        entries = self._store.get_file_info(FileSelector(self._folder, allow_not_found=True))
        return {entry.base_name for entry in entries}

    def _statuses(self, shard: int) -> Counter[str]:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table

        try:
            table = read_table(self._path(part_name(shard)), columns=["status"], filesystem=self._store)
        except (ArrowException, OSError):
            return Counter()
        return Counter(table["status"].to_pylist())

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _get(self, name: str) -> bytes:
        with self._store.open_input_file(self._path(name)) as file:
            data: bytes = file.read()
        return data

    def _put(self, name: str, data: bytes) -> None:
        whole = self._store.type_name in OBJECT_STORES
        path = self._path(name if whole else f"_{name}.tmp")
        with self._store.open_output_stream(path) as file:
            file.write(data)
        if not whole:
            self._store.move(path, self._path(name))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Make an OSError the one line that a user can act on."""
        try:
            yield
        except OSError as error:
            reason = " ".join(str(error).split())
            raise InceptionError(f"{self.out}: {reason}; see to it, or choose another --out") from error


def _is_part(name: str) -> bool:
    return name.startswith("part-") and name.endswith(".parquet")


def _json(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, indent=1, allow_nan=False).encode() + b"\n"
