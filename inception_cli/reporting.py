"""A file of rows → its report: rows and scores from one wing, the photos' pictures from the other."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inception_cli.errors import InceptionError
from inception_cli.images.thumbnail import thumbnail
from inception_cli.results.formats import read_rows
from inception_cli.results.report import About, Written, report
from inception_cli.results.sections import Judgement, Line

if TYPE_CHECKING:
    from inception_cli.evaluation import Evaluation

NAMED = 20  # inputs that are named before "…"
_BYTES = re.compile(r"\\x([89a-f][0-9a-f])")


def write_report(file: Path, rows: Path, manifest: Mapping[str, Any], found: "Evaluation | None") -> Written:
    """Make the report of `rows` and write it; an older report of that name is replaced when the new one is whole."""
    judgement = _judgement(found) if found else None
    written = report(read_rows(rows), judgement, _about(rows, manifest, found), _picture)
    temporary = file.with_name(file.name + ".tmp")
    try:
        temporary.write_bytes(written.page)
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InceptionError(f"{file}: {(error.strerror or str(error)).lower()}; choose another file") from error
    return written


def _picture(path: str) -> bytes:
    r"""The thumbnail of a row's photo; rows have a byte of a name that is no UTF-8 as `\xNN`."""
    if data := thumbnail(path):
        return data
    raw = _BYTES.sub(lambda found: chr(0xDC00 + int(found[1], 16)), path)
    return thumbnail(raw) if raw != path else b""


def _judgement(found: "Evaluation") -> Judgement:
    first = found.judged[0]
    notes = tuple(each.truth.described for each in found.judged) + first.scores.notes
    if first.scores.failed:
        wrong = first.scores.top1_failed_as_wrong
        notes += (f"{first.scores.failed:,} photos with an answer failed: top-1 is {wrong:.2f} % with them as wrong",)
    return Judgement(
        first.truth, first.scores, (*_lines(found),), notes, first.finding.sentence if first.finding else ""
    )


def _lines(found: "Evaluation") -> Iterator[Line]:
    """The published table: what was measured, what the publisher gives, and the paper's row for the same protocol."""
    network = found.manifest.get("network") or {}
    params, macs = network.get("params"), network.get("mmpretrain_count")
    for judged in found.judged:
        scores = judged.scores
        name = f"measured, n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{scores.n:,}" + (
            f" ({judged.truth.source})" if len(found.judged) > 1 else ""
        )
        yield Line(name, scores.top1, scores.top5, scores.top1_ci, scores.top5_ci, params, macs)
    if given := found.published:
        yield Line(f"published ({given['name']})", given["top1"], given["top5"], params=params, macs=macs)
    if paper := found.paper:
        name = f"paper: {paper['networks']} × {paper['crops']} crops, {paper['n']:,} images"
        yield Line(name, paper["top1"], paper["top5"])


def _about(rows: Path, manifest: Mapping[str, Any], found: "Evaluation | None") -> About:
    """What the manifest tells of weights, pixels and machine."""
    facts = {"Ground truth": found.judged[0].truth.described} if found else {}
    run = manifest.get("run")
    if not run:
        return About(f"Rows of {rows.name}; without their manifest, how they were made is not known.", facts)
    weights, pixels, plan = run["weights"], run["pixels"], run["plan"]
    inputs = [name if name != "-" else "a list on standard input" for name in manifest["inputs"]]
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    preset = pixels["preset"]
    facts |= {
        "Photos": ", ".join(inputs[:NAMED]) + (f", … ({len(inputs):,} in all)" if len(inputs) > NAMED else ""),
        "Weights": ", ".join(f"{each['name']} (sha256 {each['sha256']})" for each in weights),
        "Pixels": f"preset {preset['name']}: {preset['size']} × {preset['size']}, views of a photo: {pixels['crops']}",
        "Computed": f"{plan['device']}, {plan['precision']}, {manifest.get('images_per_s', 0):.1f} images/s",
        "Versions": versions,
    }
    networks = " and ".join(Path(each["name"]).name for each in weights)
    more = f" and {len(inputs) - 1:,} more" if len(inputs) > 1 else ""
    return About(f"Inception V3 with the weights {networks}, on {inputs[0]}{more}.", facts)
