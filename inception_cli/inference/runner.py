"""Run a job: list the inputs, resume, predict, write, publish."""

import os.path
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from inception_cli.config import Classes, RunConfig, Settings
from inception_cli.errors import InceptionError, UsageError, excerpt, plural
from inception_cli.files.remote import is_remote
from inception_cli.images.dataset import shared_memory_note
from inception_cli.images.discovery import Discovery, no_images
from inception_cli.images.failure import PILLOW_DECODES_IT
from inception_cli.inference import calibration, ray_backend, ray_cluster
from inception_cli.inference.multi_gpu import MultiGpuPredictor, visible_devices
from inception_cli.inference.predictor import DevicePredictor, Predictor
from inception_cli.inference.resolve import resolve, resolve_plan
from inception_cli.machine import library_versions, major_minor
from inception_cli.network import int8, onednn
from inception_cli.network.counting import count
from inception_cli.network.fusion import DTYPES
from inception_cli.predictions.prediction import reason
from inception_cli.predictions.tree import file_before_node
from inception_cli.storage.label_sources import LabelSources
from inception_cli.storage.store import Int8Check, Manifest, NetworkCounts, RunStore, differences
from inception_cli.weights.describe import same_weights
from inception_cli.weights.read import find_familiarity

#: Differences from an interrupted run that are listed, and their characters.
MAX_DIFFERENCES, MAX_SHOWN = 5, 120


#: Inputs from which a run in fp32 says at its end that int8 would be faster.
SUGGEST_INT8 = 1000


@dataclass
class RunProgress:
    """How far a run has got."""

    total: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # rows by status, those of an interrupted run included
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)  # rows without a prediction, as well
    resumed: int = 0  # rows that an interrupted run had written
    seconds: float = 0.0  # of this process

    def add(self, rows: Mapping[tuple[str, str], int]) -> None:
        """Count rows, given by status and reason."""
        for (status, why), number in rows.items():
            self.counts[status] += number
            if why:
                self.reasons[status, why] += number

    @property
    def done(self) -> int:
        """Rows that are written."""
        return self.counts.total()

    @property
    def not_ok(self) -> int:
        """Rows without a prediction."""
        return self.done - self.counts["ok"]

    @property
    def images_per_s(self) -> float:
        """Images per second of this process."""
        return (self.done - self.resumed) / self.seconds if self.seconds else 0.0


@dataclass
class Outcome:
    """How a run ended."""

    manifest: Manifest
    progress: RunProgress = field(default_factory=RunProgress)
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)  # assumptions and warnings for the user
    details: list[str] = field(default_factory=list)  # shown with --verbose
    skipped: Counter[str] = field(default_factory=Counter)  # files that are not images, by suffix
    could_tell_unfamiliar: bool = False  # `familiar` was not requested, but the weights have what it needs
    added: list[str] = field(default_factory=list)  # images that appeared after an interrupted run made its list

    @property
    def incomplete(self) -> bool:
        """Whether inputs have no prediction, or folders could not be read."""
        return self.progress.not_ok > 0 or self.manifest.unreadable_folders > 0


class ProgressCallback(Protocol):
    """Is called while a run proceeds."""

    def update(self, progress: RunProgress) -> None:
        """Show that a batch is done."""

    def preparing(self, description: str) -> None:
        """Show what is done before the first row."""

    def downloading(self, name: str, done: int, total: int) -> None:
        """Show the bytes of a download; `total` is 0 where it is unknown."""


def run_job(
    inputs: Sequence[str],
    settings: Settings,
    store: RunStore,
    callback: ProgressCallback,
    labels: LabelSources | None = None,
    check: Callable[[Sequence[str], Classes], None] | None = None,
) -> Outcome:
    """Classify the inputs into the store, or resume the interrupted run that it holds.

    `labels` goes into the manifest, so that the predictions can be scored later without naming them again. `check` is
    called with the paths and the model's classes before anything is classified, and may raise an InceptionError.
    """
    with store:
        if store.finished and store.manifest:
            counts = Counter(store.manifest.counts)
            return Outcome(store.manifest, RunProgress(counts.total(), counts, resumed=counts.total()))
        _require_local_files(inputs, settings)
        discovery = Discovery(inputs)
        paths = store.open_inputs(lambda: discovery)
        if not paths:
            raise no_images(discovery)
        with ray_cluster.connected(settings) if settings.engine == "ray" else nullcontext():
            run = _resolve(settings, store.manifest, len(paths), callback)
            if store.manifest:
                _require_same(store.name, store.manifest, discovery, run)
            if check:
                check(paths, run.classes)
            if store.manifest:  # the ground truth of this evaluation, not that of the interrupted one
                manifest = replace(store.manifest, labels=labels or store.manifest.labels)
            else:
                run, checked = _calibrate(run, paths, callback)
                manifest = _manifest(discovery, run, labels, checked)
            outcome = Outcome(
                manifest=manifest,
                notes=_notes(settings, run, manifest, len(paths)),
                details=_details(run, manifest),
                skipped=discovery.skipped,
                could_tell_unfamiliar=_could_tell_unfamiliar(run),
            )
            outcome.progress.add(store.begin(outcome.manifest))
            outcome.progress.total, outcome.progress.resumed = len(paths), outcome.progress.done
            predictor = _predictor(settings, run, outcome.manifest.directory)
            _predict_pending(paths, predictor, store, callback, outcome)
        if not outcome.interrupted:
            if store.manifest:
                with chdir(outcome.manifest.directory):
                    outcome.added = _added_images(inputs, paths)
            outcome.manifest = outcome.manifest.with_result(outcome.progress.counts, outcome.progress.images_per_s)
            store.publish(outcome.manifest)
        return outcome


def _predict_pending(
    paths: Sequence[str], predictor: Predictor, store: RunStore, callback: ProgressCallback, outcome: Outcome
) -> None:
    """Predict and write the inputs without a row; a signal stops after the current batch."""
    progress, started, damaged = outcome.progress, time.monotonic(), 0
    with _stop_on_signal() as signals:
        for result in predictor.predict(paths, store.pending()):
            store.write(result.first, result.predictions, result.arrays)
            progress.add(Counter((row.status, reason(row.error)) for row in result.predictions))
            damaged += sum(PILLOW_DECODES_IT in prediction.error for prediction in result.predictions)
            progress.seconds = time.monotonic() - started
            callback.update(progress)
            if result.reduced_batch not in (None, outcome.manifest.reduced_batch):
                # From here on the last digits of scores may differ from those of a run with more memory.
                outcome.manifest = replace(outcome.manifest, reduced_batch=result.reduced_batch)
                store.update(outcome.manifest)
            if signals and progress.done < progress.total:
                outcome.interrupted = True
                break
    if damaged:
        outcome.notes.append(
            f"{plural(damaged, 'damaged image has', 'damaged images have')} no prediction, although Pillow decodes "
            "such files: the publishers' code would have counted them"
        )
    if reduced := outcome.manifest.reduced_batch:
        outcome.notes.append(
            f"not enough memory for a batch: {plural(reduced, 'image')} at once instead of "
            f"{outcome.manifest.run.images_per_batch}; the last digits of scores may differ from a run with more memory"
        )


def _resolve(settings: Settings, earlier: Manifest | None, images: int, callback: ProgressCallback) -> RunConfig:
    """Return the run configuration on this machine, or on the cluster."""
    earlier_run = earlier.run if earlier else None
    plan_of = ray_backend.resolve_cluster_plan if settings.engine == "ray" else resolve_plan
    return resolve(settings, plan_of(settings, earlier_run, images), earlier_run, images, callback.downloading)


def _calibrate(run: RunConfig, paths: Sequence[str], callback: ProgressCallback) -> tuple[RunConfig, Int8Check | None]:
    """Return a run in int8 calibrated on its photos, and its agreement with fp32; another run as it is."""
    if run.plan.precision != "int8":
        return run, None
    calibration.require_enough_inputs(len(paths))
    calibration.require_instructions()
    callback.preparing(f"calibrating int8 on {calibration.CALIBRATED} photos")
    run = calibration.calibrate(run, paths)
    callback.preparing("comparing int8 with fp32")
    return run, calibration.check(run, paths)


def _predictor(settings: Settings, run: RunConfig, directory: str) -> Predictor:
    """Return the predictor for the cluster, for several GPUs, or for one device.

    `directory` is the working directory that relative inputs belong to: that of the first run, if this one resumes it.
    """
    if not os.path.isdir(directory):  # noqa: PTH112 - Path.is_dir raises an error for a name that is too long
        raise InceptionError(
            f"{excerpt(directory, 200)}: the interrupted run was started in this folder, which is missing: restore it, "
            "or --restart"
        )
    if settings.engine == "ray":
        return ray_backend.RayPredictor(run, ray_backend.count_actors(settings, run.plan), directory)
    if directory == str(Path.cwd()):
        directory = ""  # relative paths are opened as they are
    devices = visible_devices(run)
    if len(devices) > 1:
        return MultiGpuPredictor(run, devices, directory)
    return DevicePredictor(run, directory)


def _manifest(discovery: Discovery, run: RunConfig, labels: LabelSources | None, int8: Int8Check | None) -> Manifest:
    """Return the manifest of a new run."""
    counts = count(len(run.classes), run.pixels.preset.size)
    return Manifest(
        inputs=discovery.inputs,
        directory=str(Path.cwd()),
        run=run,
        versions={"python": sys.version.split()[0], **library_versions()},
        network=NetworkCounts(counts.params, counts.macs, counts.flops, counts.mmpretrain_count),
        labels=labels,
        int8=int8,
        stdin_sha256=discovery.stdin_sha256,
        unreadable_folders=discovery.unreadable.count,
        unreadable_examples=tuple(discovery.unreadable.examples),
    )


def _require_same(name: str, earlier: Manifest, discovery: Discovery, run: RunConfig) -> None:
    """Raise InceptionError with the differences from the inputs, settings and versions of the interrupted run.

    Without a list on standard input the list of the interrupted run is used.
    """
    stdin = discovery.read_stdin_sha256() or earlier.stdin_sha256
    changed = differences(
        _identity(earlier.inputs, earlier.stdin_sha256, earlier.versions, earlier.run),
        _identity(discovery.inputs, stdin, library_versions(), run),
    )
    if changed:
        raise InceptionError(
            f"{name}: to resume its interrupted run give the same options, or start again with --restart; "
            f"they differ in {_listed([*map(_with_option, changed)])}"
        )


def _identity(
    inputs: Sequence[str], stdin_sha256: str | None, versions: Mapping[str, str], run: RunConfig
) -> dict[str, Any]:
    """Return everything that the rows of a run depend on."""
    return {
        **{f"input {number}": name for number, name in enumerate(inputs, 1)},
        "list on standard input": stdin_sha256,
        "versions": major_minor(versions),
        **run.rows_depend_on(),
    }


def _with_option(line: str) -> str:
    """Return a difference with the option that sets its value, if one does: `--crops: 10 → 1`, not `pixels.crops`."""
    name, _, change = line.partition(": ")
    *section, field_name = name.split(".")
    is_option = len(section) <= 1 and field_name in {each.name for each in fields(Settings)}
    return f"--{field_name.replace('_', '-')}: {change}" if is_option else line


def _listed(changed: Sequence[str]) -> str:
    """Return the first differences as one text: at most five, and few enough for a line that can be read."""
    shown = changed[:1]
    for line in changed[1:MAX_DIFFERENCES]:
        if len("; ".join(shown)) + len(line) > MAX_SHOWN:
            break
        shown = [*shown, line]
    more = len(changed) - len(shown)
    return "; ".join(shown) + (f"; and {more:,} more" if more > 0 else "")


def _require_local_files(inputs: Sequence[str], settings: Settings) -> None:
    if settings.engine == "local" and (remote := next(filter(is_remote, inputs), None)):
        raise UsageError(f"{remote}: files in an object store are read with --engine ray")


def _notes(settings: Settings, run: RunConfig, manifest: Manifest, images: int) -> list[str]:
    """Return the assumptions that the user should know about, a line each."""
    notes = [f"{weights.name}: {note}" for weights in run.weights for note in weights.notes]
    if note := shared_memory_note(run.pixels, run.loader):
        notes.append(note)
    notes += same_weights([(weights.name, weights.sha256) for weights in run.weights])
    if settings.only_classes and (note := file_before_node(settings.only_classes, run.classes)):
        notes.append(note)
    if run.top_k < settings.top_k:
        notes.append(f"top-k is {run.top_k}: there are no more classes")
    if manifest.int8:
        notes.append(str(manifest.int8))
    slow = settings.precision == "auto" and (run.plan.device, run.plan.precision) == ("cpu", "fp32")
    if slow and images >= SUGGEST_INT8 and int8.available():
        notes.append("this processor computes about three times as fast in int8: try --precision int8")
    return notes


def _could_tell_unfamiliar(run: RunConfig) -> bool:
    """Return whether the run could have had `familiar`: single weights with statistics of their training photos."""
    if run.thresholds.familiar is not None or len(run.weights) > 1:
        return False
    return find_familiarity(Path(run.weights[0].file)) is not None


def _details(run: RunConfig, manifest: Manifest) -> list[str]:
    """Return the lines of --verbose: what was decided for this run."""
    preset, plan, loader = run.pixels.preset, run.plan, run.loader
    details = [
        f"preset {preset.name}: short side {preset.resize}, {preset.filter}, centre {preset.size}",
        f"{plan.device}, {plan.precision}, batches of {loader.batch_size}, {plural(loader.workers, 'worker')}",
    ]
    if manifest.int8:
        details.append(f"{manifest.int8.instructions}, calibrated on at most {calibration.CALIBRATED} photos")
    elif plan.device == "cpu" and not plan.compile and not onednn.available(DTYPES[plan.precision]):
        details.append(
            f"oneDNN's fused operators do not run in {plan.precision} on this processor: the plain network is used"
        )
    return details


def _added_images(inputs: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return the images in the inputs that are not in the list of the resumed run; not known for standard input."""
    if "-" in inputs:
        return []
    known = set(paths)
    try:
        return [path for path in Discovery(inputs) if path not in known]
    except InceptionError:  # the inputs were moved away; their rows say so
        return []


@contextmanager
def _stop_on_signal() -> Iterator[list[int]]:
    """Collect the numbers of signals in the list; a second one raises KeyboardInterrupt at once.

    Signals are SIGINT, SIGTERM, and SIGHUP unless `nohup` has made this process ignore it.
    """
    signals: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
