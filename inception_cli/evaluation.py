"""Rows and truth → the published table, measured. Rows that exist are judged without torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inception_cli.errors import GateNotMet, InceptionError, UsageError
from inception_cli.results import doctor, truth
from inception_cli.results.against import Against, against
from inception_cli.results.classes import Classes, imagenet
from inception_cli.results.columns import Columns
from inception_cli.results.doctor import Finding
from inception_cli.results.parts import FINISHED, UNDER_WAY
from inception_cli.results.scores import Scores, per_class_csv, score
from inception_cli.results.truth import Truth
from inception_cli.stores import nearby

#: The paper's Inception V3 by (networks, crops): top-1 and top-5 in percent (tables 3, 4 and 5 of arXiv:1512.00567; of
#: four networks the top-5 that their caption gives for the validation set).
PAPER = {
    (1, 1): (78.8, 94.4),
    (1, 12): (80.53, 95.52),
    (1, 144): (81.23, 95.8),
    (4, 144): (82.8, 96.54),
}
#: Images of ILSVRC 2012's validation set that the paper's figures are on: 1,762 are on its blacklist.
PAPER_IMAGES = 48_238


@dataclass(frozen=True)
class Question:
    """What is asked of rows: the right answers, and what to compare the figures with."""

    val_dir: str | None = None
    labels: tuple[str, ...] = ()  # files
    label_form: str | None = None
    exclude: str | None = None  # a file
    against: str | None = None  # a file of rows
    expect_top1: float | None = None  # percent
    tolerance: float = 0.0  # points

    def recorded(self) -> dict[str, Any]:
        """What a manifest keeps of it: the same rows can be judged again without these options."""
        files = {name: _sha256(Path(name)) for name in (*self.labels, *([self.exclude] if self.exclude else []))}
        return {
            "val_dir": self.val_dir,
            "labels": list(self.labels),
            "label_form": self.label_form,
            "exclude": self.exclude,
            "sha256": files,
        }

    def or_recorded(self, manifest: Mapping[str, Any]) -> "Question":
        """This question, or where it names no truth that of the run which made the rows."""
        kept = manifest.get("truth")
        if kept is None or self.val_dir or self.labels:
            return self
        given = asdict(self) | {
            "val_dir": kept["val_dir"],
            "labels": tuple(kept["labels"]),
            "label_form": self.label_form or kept["label_form"],
            "exclude": self.exclude or kept["exclude"],
        }
        return Question(**given)


@dataclass(frozen=True)
class Judged:
    """One truth, and how the rows stand against it."""

    truth: Truth
    scores: Scores
    finding: Finding | None  # of the label doctor


@dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation tells; the first truth is the one that the gate and the table are about."""

    manifest: Mapping[str, Any]
    judged: tuple[Judged, ...]
    against: Against | None = None

    @property
    def scores(self) -> Scores:
        return self.judged[0].scores

    def to_json(self) -> dict[str, Any]:
        """The contract of `evaluate --json`; accuracies in percent, not rounded; null is not known."""
        run, network = self.manifest.get("run") or {}, self.manifest.get("network") or {}
        weights = run.get("weights") or []
        return {
            "model": "Inception V3",
            "weights": [each["name"] for each in weights] or None,
            "sha256": [each["sha256"] for each in weights] or None,
            "preset": run["pixels"]["preset"]["name"] if run else None,
            "device": run["plan"]["device"] if run else None,
            "precision": run["plan"]["precision"] if run else None,
            "params": network.get("params"),
            "macs": network.get("macs"),
            "flops": network.get("flops"),
            **_figures(self.scores),
            "published": self.published,
            "paper": self.paper,
            "images_per_s": self.manifest.get("images_per_s"),
            "truths": [{"truth": each.truth.described, **_figures(each.scores)} for each in self.judged],
            "against": asdict(self.against) if self.against else None,
        }

    @property
    def published(self) -> dict[str, Any] | None:
        """What the publisher gives for these weights: one network, one crop, the publisher's own preset."""
        run = self.manifest.get("run")
        if not run or len(run["weights"]) != 1:
            return None
        weights = run["weights"][0]
        if weights["top1"] is None:
            return None
        return {"name": weights["name"], "top1": weights["top1"], "top5": weights["top5"], "n": 50_000, "crops": 1}

    @property
    def paper(self) -> dict[str, Any] | None:
        """The paper's row for the same protocol, on fewer images: its own network, whose weights were not published."""
        run = self.manifest.get("run")
        if not run or all(weights["top1"] is None for weights in run["weights"]):
            return None
        protocol = len(run["weights"]), run["pixels"]["crops"]
        if protocol not in PAPER:
            return None
        top1, top5 = PAPER[protocol]
        return {"networks": protocol[0], "crops": protocol[1], "top1": top1, "top5": top5, "n": PAPER_IMAGES}

    def check(self, question: Question) -> None:
        """GateNotMet when top-1 is below what was expected."""
        wanted = question.expect_top1
        if wanted is not None and self.scores.top1 < wanted - question.tolerance:
            raise GateNotMet(
                f"top-1 is {self.scores.top1:.3f} %, expected {wanted} % (tolerance {question.tolerance}); "
                "look at the preset, the labels and the failures above"
            )


def evaluate(rows: Path, manifest: Mapping[str, Any], question: Question) -> Evaluation:
    """Judge a file of rows; all truths from one reading."""
    columns = Columns.read(rows)
    question = question.or_recorded(manifest)
    classes = classes_of(manifest) if "run" in manifest else columns.seen_classes()
    judged = [_judge(columns, each) for each in _truths(columns.paths, classes, question)]
    if not question.against:
        return Evaluation(manifest, tuple(judged))
    with nearby(question.against) as others:
        return Evaluation(manifest, tuple(judged), against(columns, Columns.read(others), judged[0].truth))


def read_manifest(rows: Path) -> dict[str, Any]:
    """The manifest beside a file of rows; empty when there is none (then its figures are not known)."""
    file = rows / FINISHED if rows.is_dir() else rows.with_name(rows.name + ".json")
    if (rows / UNDER_WAY).exists():
        raise InceptionError(f"{rows} is not finished: the command that began it goes on")
    try:
        manifest: dict[str, Any] = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InceptionError(f"{file}: damaged manifest ({error}): move it away to judge the rows alone") from error
    return manifest


def require_same_mask(manifest: Mapping[str, Any], only: Sequence[int]) -> None:
    """UsageError when rows that exist were made under another --only-classes, which comes before the best are taken."""
    made = manifest.get("run", {}).get("only")
    if only and tuple(made or ()) != tuple(only):
        raise UsageError(
            "--only-classes is a setting of the run: these rows were made otherwise; make others with --val-dir"
        )


def _judge(columns: Columns, right: Truth) -> Judged:
    return Judged(right, score(columns, right), doctor.diagnose(columns, right))


def _truths(paths: Sequence[str], classes: Classes, question: Question) -> list[Truth]:
    form = question.label_form
    if question.labels:
        found = [truth.from_file(Path(name), paths, classes, form) for name in question.labels]
    else:
        found = [truth.from_folders(paths, question.val_dir, classes, form)]
    if question.exclude:
        found = [truth.exclude(each, Path(question.exclude), paths) for each in found]
    return found


def classes_of(manifest: Mapping[str, Any]) -> Classes:
    """The classes of the run that made the rows, in the model's order; without a manifest ImageNet's."""
    return Classes(tuple(manifest["run"]["weights"][0]["classes"]["names"])) if "run" in manifest else imagenet()


def write_per_class(file: Path, scores: Scores) -> None:
    """Precision, recall, F1 and support of each class, as CSV."""
    try:
        file.write_bytes(per_class_csv(scores))
    except OSError as error:
        raise InceptionError(f"{file}: {(error.strerror or str(error)).lower()}; choose another --per-class") from error


def _figures(scores: Scores) -> dict[str, Any]:
    names = ("n", "failed", "top1", "top1_ci", "top5", "top5_ci", "top1_failed_as_wrong", "top5_failed_as_wrong")
    return {name: getattr(scores, name) for name in names} | {"calibration_error": scores.calibration_error}


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InceptionError(f"{file}: {(error.strerror or str(error)).lower()}; name a file of labels") from error
