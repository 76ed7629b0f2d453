"""A run from what was named to what is published: the list, resuming, rows as they come, the manifest."""

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from inception_cli import __version__, cluster, gpus, predict, ray_engine
from inception_cli.errors import InceptionError
from inception_cli.images.inputs import Inputs, PathList, encode, no_images
from inception_cli.images.loader import crowded, images_per_batch
from inception_cli.network import onednn
from inception_cli.network.counting import count
from inception_cli.network.optimize import DTYPES
from inception_cli.results.ledger import Ledger, difference
from inception_cli.results.parts import Parts
from inception_cli.results.rows import Prediction, csv_header, to_csv
from inception_cli.settings import Run, Settings, resolve

SHORT_OF_MEMORY = "memory had too little room"


@dataclass
class Tally:
    """How far a run has come."""

    total: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # rows by status
    here: int = 0  # rows of this session
    seconds: float = 0.0  # of this session

    @property
    def done(self) -> int:
        return self.counts.total()

    @property
    def failed(self) -> int:
        return self.done - self.counts["ok"]

    @property
    def images_per_s(self) -> float:
        return self.here / self.seconds if self.seconds else 0.0


@dataclass
class Outcome:
    """How a run ended, for the one who reports it."""

    tally: Tally
    manifest: dict[str, Any]
    notes: list[str] = field(default_factory=list)  # what was taken for granted
    details: list[str] = field(default_factory=list)  # shown with --verbose
    skipped: Counter[str] = field(default_factory=Counter)  # files that are no images, by suffix
    appeared: list[str] = field(default_factory=list)  # since the interrupted run made its list
    resumed: int = 0  # rows that the interrupted run had written
    interrupted: bool = False
    in_parts: bool = False  # rows are in a folder


class Watch(Protocol):
    """Whoever looks on."""

    def update(self, tally: Tally) -> None:
        """A batch is done."""

    def fetching(self, name: str, done: int, total: int) -> None:
        """Some bytes of a download have come; total is 0 where it is not known."""


Write = Callable[[Sequence[Prediction]], None]
Remember = Callable[[dict[str, Any]], None]
Begin = Callable[[Run], Write]


def to_file(
    named: list[str],
    settings: Settings,
    out: Path,
    restart: bool,
    force: bool,
    watch: Watch,
    truth: Mapping[str, Any] | None = None,
) -> Outcome:
    """Classify what was named into `out`, or go on with the run on it that was interrupted.

    `truth` goes into the manifest: what the rows are to be judged by.
    """
    with Ledger.open(out, restart=restart, force=force) as ledger:
        if ledger.published:  # an earlier run was killed between writing its last row and giving the file its name
            manifest = ledger.manifest or {}
            counts: Counter[str] = Counter(manifest["counts"])
            return Outcome(Tally(counts.total(), counts), manifest, resumed=counts.total())
        if ledger.manifest is None:
            return _begin(ledger, named, settings, watch, truth)
        return _go_on(ledger, ledger.manifest, named, settings, watch)


def to_stream(named: list[str], settings: Settings, begin: Begin, watch: Watch) -> Outcome:
    """Classify what was named, and hand each batch of rows to what `begin` gave; nothing is kept."""
    inputs = Inputs(named, sys.stdin.buffer)
    paths = PathList.of(inputs)
    if not paths:
        raise no_images(inputs)
    run = resolve(settings, None, watch.fetching, len(paths))
    outcome = Outcome(
        Tally(len(paths)), manifest_of(named, run), notes_of(settings, run), details_of(run), inputs.skipped
    )
    _classify(paths, run, 0, begin(run), lambda manifest: None, watch, outcome)
    outcome.manifest |= _figures(outcome.tally)
    return outcome


def to_folder(
    named: list[str],
    settings: Settings,
    out: str,
    engine: cluster.Engine,
    restart: bool,
    force: bool,
    watch: Watch,
    truth: Mapping[str, Any] | None = None,
) -> Outcome:
    """Classify what was named on a cluster into a folder of parts, or go on with the run on it that was interrupted."""
    parts = Parts.open(out, restart=restart, force=force)
    inputs = Inputs(named, sys.stdin.buffer)
    paths = PathList(parts.inputs()) if parts.manifest else PathList.of(inputs)
    if not paths:
        raise no_images(inputs)
    earlier = Run.from_json(parts.manifest["run"]) if parts.manifest else None
    with cluster.connected(engine):
        plan = ray_engine.plan(settings, earlier, len(paths))
        actors, threads = ray_engine.actors_and_threads(engine, plan.device)
        run = resolve(settings, earlier, watch.fetching, plan=plan)
        if earlier is None:
            run = replace(run, threads=threads)
            manifest = manifest_of(named, run) | ({"truth": truth} if truth else {})
            per_batch = images_per_batch(run.loading.batch_size, run.pixels.crops)
            parts.begin(manifest, paths.encoded(range(len(paths))), per_batch)
        else:
            manifest = parts.manifest or {}
            _refuse_other(out, manifest, named, earlier, run)
        outcome = Outcome(
            Tally(len(paths)), manifest, notes_of(settings, run), details_of(run), inputs.skipped, in_parts=True
        )
        _classify_parts(parts, paths, run, actors, watch, outcome)
    if not outcome.interrupted:
        outcome.appeared = _appeared(named, paths) if earlier else []
        outcome.manifest |= _figures(outcome.tally)
        parts.publish(outcome.manifest)
    return outcome


def _classify_parts(parts: Parts, paths: PathList, run: Run, actors: int, watch: Watch, outcome: Outcome) -> None:
    """The shards that have no part yet; a signal leaves those that have one."""
    tally, began, done = outcome.tally, time.monotonic(), parts.done()
    tally.counts.update(sum(done.values(), Counter()))
    outcome.resumed = tally.done
    pending = [positions for shard, positions in parts.shards.items() if shard not in done]
    with _stop_on_signal() as stop:
        for batch in ray_engine.classify(paths, pending, run, actors) if pending else ():
            rows = parts.add(batch.position, batch.rows, run.top_k)
            tally.counts.update(row.status for row in rows)
            tally.here += len(rows)
            tally.seconds = time.monotonic() - began
            watch.update(tally)
            if batch.at_once:
                _split(outcome, run, batch.at_once)
            if stop and tally.done < tally.total:
                outcome.interrupted = True
                return


def _begin(
    ledger: Ledger, named: list[str], settings: Settings, watch: Watch, truth: Mapping[str, Any] | None
) -> Outcome:
    inputs = Inputs(named, sys.stdin.buffer)
    images = ledger.list_inputs(map(encode, inputs))
    if not images:
        raise no_images(inputs)
    run = resolve(settings, None, watch.fetching, images)
    manifest = manifest_of(named, run) | ({"truth": truth} if truth else {})
    ledger.begin(manifest, csv_header(run.top_k))
    return _finish(
        ledger, named, run, Outcome(Tally(), manifest, notes_of(settings, run), details_of(run), inputs.skipped), watch
    )


def _go_on(ledger: Ledger, manifest: dict[str, Any], named: list[str], settings: Settings, watch: Watch) -> Outcome:
    earlier = Run.from_json(manifest["run"])
    run = resolve(settings, earlier, watch.fetching)
    _refuse_other(ledger.out, manifest, named, earlier, run)
    resumed = ledger.resume(images_per_batch(run.loading.batch_size, run.pixels.crops))
    return _finish(
        ledger, named, run, Outcome(Tally(), manifest, notes_of(settings, run), details_of(run), resumed=resumed), watch
    )


def _refuse_other(out: Path | str, manifest: Mapping[str, Any], named: list[str], earlier: Run, run: Run) -> None:
    """InceptionError when an interrupted run was asked for other rows, with the difference."""
    changed = difference(
        {"inputs": manifest["inputs"], **earlier.rows_depend_on()}, {"inputs": named, **run.rows_depend_on()}
    )
    if changed:
        raise InceptionError(
            f"{out}: its interrupted run was asked otherwise ({'; '.join(changed)}): "
            "give the same options, or begin again with --restart"
        )


def _finish(ledger: Ledger, named: list[str], run: Run, outcome: Outcome, watch: Watch) -> Outcome:
    """Rows from where the part file ends to the end of the list; publish."""
    paths = PathList.open(ledger.inputs)
    outcome.tally.total = len(paths)
    if outcome.resumed:
        outcome.tally.counts.update(row.status for row in ledger.rows())

    def write(rows: Sequence[Prediction]) -> None:
        ledger.write(to_csv(rows, run.top_k))

    if outcome.resumed < len(paths):
        _classify(paths, run, outcome.resumed, write, ledger.remember, watch, outcome)
    if not outcome.interrupted:
        outcome.appeared = _appeared(named, paths) if outcome.resumed else []
        if outcome.tally.done != len(paths):
            raise AssertionError(f"{outcome.tally.done} rows for {len(paths)} inputs")
        outcome.manifest |= _figures(outcome.tally)
        ledger.publish(outcome.manifest)
    return outcome


def _classify(
    paths: Sequence[str], run: Run, start: int, write: Write, remember: Remember, watch: Watch, outcome: Outcome
) -> None:
    """The loop of every run: rows are written, counted and shown; a signal ends it after the batch in flight."""
    tally, began = outcome.tally, time.monotonic()
    classify = gpus.classify if len(gpus.visible(run)) > 1 else predict.classify

    def split(at_once: int) -> None:
        _split(outcome, run, at_once)
        remember(outcome.manifest)

    with _stop_on_signal() as stop:
        for rows in classify(paths, run, start, split):
            write(rows)
            tally.counts.update(row.status for row in rows)
            tally.here += len(rows)
            tally.seconds = time.monotonic() - began
            watch.update(tally)
            if stop and tally.done < tally.total:
                outcome.interrupted = True
                return


def _split(outcome: Outcome, run: Run, at_once: int) -> None:
    """Memory had room for so many images alone."""
    outcome.manifest["split_to"] = at_once  # which ends the promise of the same bytes
    outcome.notes = [note for note in outcome.notes if not note.startswith(SHORT_OF_MEMORY)]
    outcome.notes.append(
        f"{SHORT_OF_MEMORY}: {at_once} images at once instead of {run.loading.batch_size}; "
        "the last digits of scores may differ from a run with more"
    )


@contextmanager
def _stop_on_signal() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM put their number into the list; a second one stops at once, by KeyboardInterrupt."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _appeared(named: list[str], paths: Sequence[str]) -> list[str]:
    """The images that lie in what was named now and are not in the list (of standard input nothing is known)."""
    known = set(paths)
    if "-" in named:
        return []
    return [path for path in Inputs(named) if path not in known]


def notes_of(settings: Settings, run: Run) -> list[str]:
    """What was taken for granted, in a line each."""
    notes = [f"{each.name}: {note}" for each in run.weights for note in each.notes]
    if note := crowded(run.pixels, run.loading):
        notes.append(note)
    if run.top_k < settings.top_k:
        notes.append(f"top-k is {run.top_k}, for there are no more classes")
    return notes


def details_of(run: Run) -> list[str]:
    """What is worth a line with --verbose: that the fast convolutions of this machine cannot be used."""
    plan = run.plan
    if plan.device != "cpu" or plan.compile or onednn.available(DTYPES[plan.precision]):
        return []
    return [f"oneDNN's fused operators do not run in {plan.precision} on this processor: the plain network is used"]


def manifest_of(named: list[str], run: Run) -> dict[str, Any]:
    """What stands beside the rows, so that they can be judged without torch: run, versions, counts of the network."""
    counts = count(len(run.weights[0].classes.names), run.pixels.preset.size)
    libraries = {name: version(name) for name in ("torch", "torchvision", "pillow")}
    return {
        "command": "classify",
        "inputs": named,
        "run": run.to_json(),
        "versions": {"inception": __version__, "python": sys.version.split()[0], **libraries},
        "network": {
            "params": counts.params,
            "macs": counts.macs,
            "flops": counts.flops,
            "mmpretrain_count": counts.mmpretrain_count,
        },
    }


def _figures(tally: Tally) -> dict[str, Any]:
    return {"n": tally.done, "counts": dict(tally.counts), "images_per_s": tally.images_per_s}
