"""Find and load weights by name or file, and save them: tensors, preset and class names.

Weights own their preset and class names: by default a network gets pixels prepared as in its training. Nothing in a
file is executed: it is read by safetensors, or by `torch.load` with `weights_only=True`.
"""

import difflib
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save
from torch import Tensor

from inception_cli.config import MIDDLE_FEATURES, PRESETS, Classes, Preset, Weights
from inception_cli.errors import InceptionError, UsageError, os_errors, plural
from inception_cli.files.atomic import new_folder, replacing, set_aside
from inception_cli.files.file_kind import file_kind
from inception_cli.files.hashing import sha256
from inception_cli.network.familiarity import MIN_PER_CLASS, MIN_PHOTOS, Familiarity
from inception_cli.network.model import InceptionV3
from inception_cli.predictions.classes import imagenet
from inception_cli.weights import checkpoint
from inception_cli.weights.checkpoint import Checkpoint, CheckpointError
from inception_cli.weights.download import DownloadProgress, fetch, ignore_progress
from inception_cli.weights.model_folder import WeightsFiles, find_model_folder
from inception_cli.weights.read import (
    FAMILIARITY,
    FAMILIARITY_FILE,
    FILE_REMEDY,
    METADATA_KEY,
    SUFFIXES,
    Metadata,
    find_familiarity,
    has_metadata,
    read_checkpoint,
    read_familiarity,
    refusal,
    require_readable,
    separate_familiarity_file,
)
from inception_cli.weights.registry import DEMO, FOLDER_PREFIX, HUB_PREFIX, PUBLISHED, Published, demo_file
from inception_cli.weights.timm_config import (
    CARD,
    CONFIG,
    WEIGHTS_FILES,
    config_fields,
    merge,
    read_config,
    require_stored_classes,
)


def find_weights(
    name: str,
    preset: str | None = None,
    classes: Classes | None = None,
    offline: bool = False,
    progress: DownloadProgress = ignore_progress,
    can_choose: bool = True,
) -> Weights:
    """Return the weights of a name, downloaded if necessary, of a file, or of a folder in timm's layout.

    `preset` and `classes` replace the weights' own; with `can_choose` the notes name the options for them. Raises
    UsageError for an unknown name, and InceptionError for a file that is missing or is not Inception V3.
    """
    published = PUBLISHED.get(name)
    files = find_model_folder(name, offline, progress) or _find_file(name, published, offline, progress)
    file, config = files.weights, read_config(files.config, with_names=classes is None) if files.config else None
    tensors, metadata, notes = read_checkpoint(file)
    if config:
        metadata, notes = merge(config, metadata), (*files.notes, *config.notes, *notes)
    names = classes.names if classes else metadata.classes
    converted = _convert(file, tensors, config.num_classes if config else len(names) if names else None)
    if config and files.config:
        require_stored_classes(files.config, config, converted.stored_classes)
    if metadata.familiarity_sha256:
        files.fetch_familiarity()
    own_preset = PRESETS[published.preset] if published else metadata.preset
    chosen_preset, assumed_preset = _choose_preset(preset, own_preset)
    chosen_classes, assumed_classes = _choose_classes(name, converted.num_classes, classes, metadata.classes)
    assumed = [
        f"{each.text}; {each.remedy}" if each.remedy and can_choose else each.text
        for each in (*assumed_preset, *assumed_classes)
    ]
    return Weights(
        name=name,
        file=str(file),
        source=files.source,
        sha256=_hash(file),
        preset=chosen_preset,
        classes=chosen_classes,
        top1=published.top1 if published else None,
        top5=published.top5 if published else None,
        licence=published.licence if published else "",
        notes=(*notes, *converted.notes, *assumed),
    )


def load_network(weights: Weights) -> InceptionV3:
    """Return the network in fp32 on the CPU, in eval mode; InceptionError when the file has changed meanwhile."""
    file = Path(weights.file)
    if _hash(file) != weights.sha256:
        raise InceptionError(
            f"{file}: changed since this command began; run the command again, or restore the old file"
        )
    return _convert(file, read_checkpoint(file).tensors, len(weights.classes)).build_network()


def load_familiarity(weights: Weights) -> Familiarity:
    """Return the statistics of the training photos; InceptionError if the weights have none, or damaged ones."""
    file = Path(weights.file)
    if not find_familiarity(file):
        if missing := separate_familiarity_file(file):
            raise InceptionError(f"{missing}: no such file, which familiar needs; {_familiarity_remedy(weights)}")
        raise InceptionError(
            f"{weights.name} has no statistics of its training photos, which familiar needs; leave it out, or train "
            f"weights that have them: inception train (at least {MIN_PHOTOS} photos, {MIN_PER_CLASS} of each class)"
        )
    try:
        familiarity = Familiarity.from_tensors(read_familiarity(file))
        if familiarity.means.shape != (len(weights.classes), MIDDLE_FEATURES):
            raise ValueError(f"means has the shape {tuple(familiarity.means.shape)}")
    except ValueError as error:
        raise InceptionError(
            f"{weights.file}: damaged or outdated statistics of the training photos: {error}; train the weights again"
        ) from error
    return familiarity


def _familiarity_remedy(weights: Weights) -> str:
    """Return how to get the statistics that a download or a copy of weights lacks."""
    if weights.name.startswith(HUB_PREFIX):
        return f"connect once to get {weights.source.rpartition('/')[0]}/{FAMILIARITY_FILE}, or leave it out"
    return "copy it there from the folder that the weights come from, or leave it out"


def save_weights(
    file: Path,
    network: InceptionV3,
    classes: Sequence[str],
    preset: Preset,
    trained: Mapping[str, Any],
    compress: bool = False,
    familiarity: Familiarity | None = None,
) -> None:
    """Write a safetensors file in fp32 with class names, preset and training in its metadata, replacing it atomically.

    `compress` stores int8 with a scale for each output channel: a quarter of the size, for weights that are shipped.
    `familiarity` are statistics of the training photos.
    """
    tensors = checkpoint.compress(_tensors(network)) if compress else _tensors(network)
    data = _serialize(tensors | _statistics(familiarity), Metadata(tuple(classes), preset, dict(trained)))
    with replacing(file) as new:
        new.write(data)


def save_folder(
    folder: Path,
    network: InceptionV3,
    classes: Sequence[str],
    preset: Preset,
    trained: Mapping[str, Any],
    card: str,
    familiarity: Familiarity | None = None,
) -> None:
    """Write weights in timm's layout to a new or empty folder, atomically: config.json, tensors, model card.

    A folder that this function has written is replaced. `card` is the text of README.md. Statistics of the training
    photos are in a file of their own, FAMILIARITY_FILE, whose hash is in the metadata of the weights.
    """
    statistics = save(_statistics(familiarity)) if familiarity else None
    sha256_of_statistics = hashlib.sha256(statistics).hexdigest() if statistics else None
    metadata = Metadata(tuple(classes), preset, dict(trained), sha256_of_statistics)
    fields = json.dumps(config_fields(preset, classes), ensure_ascii=False, indent=2)
    with new_folder(folder) as new:
        (new / WEIGHTS_FILES[0]).write_bytes(_serialize(_tensors(network), metadata))
        (new / CONFIG).write_text(f"{fields}\n", encoding="utf-8")
        (new / CARD).write_text(card, encoding="utf-8")
        if statistics:
            (new / FAMILIARITY_FILE).write_bytes(statistics)
        earlier = set_aside(folder) if is_saved_folder(folder) else None
    if earlier:
        shutil.rmtree(earlier, ignore_errors=True)


def is_saved_folder(folder: Path) -> bool:
    """Return whether this is a folder with the files that `save_folder` writes, and no others."""
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    written = {WEIGHTS_FILES[0], CONFIG, CARD}
    return written <= names <= {*written, FAMILIARITY_FILE} and has_metadata(folder / WEIGHTS_FILES[0])


def _tensors(network: InceptionV3) -> dict[str, Tensor]:
    """Return the tensors of a network for a file: on the CPU, without the auxiliary classifier."""
    return {
        name: value.detach().to("cpu").contiguous()
        for name, value in network.state_dict().items()
        if not name.startswith("AuxLogits.")
    }


def _statistics(familiarity: Familiarity | None) -> dict[str, Tensor]:
    return {FAMILIARITY + name: value for name, value in (familiarity.tensors() if familiarity else {}).items()}


def _serialize(tensors: dict[str, Tensor], metadata: Metadata) -> bytes:
    """Return the bytes of a safetensors file."""
    return save(tensors, {METADATA_KEY: json.dumps(asdict(metadata), ensure_ascii=False, allow_nan=False)})


def named_preset(name: str) -> Preset:
    """Return the preset of a name; UsageError suggests the nearest one."""
    if name not in PRESETS:
        raise UsageError(unknown_name("preset", name, PRESETS))
    return PRESETS[name]


def unknown_name(parameter: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, which suggests the nearest known name, or all of them."""
    known = list(known)
    nearest = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {nearest[0]}?" if nearest else f"choose from {', '.join(known)}"
    return f"{parameter} {name!r} is unknown: {remedy}"


def _find_file(name: str, published: Published | None, offline: bool, progress: DownloadProgress) -> WeightsFiles:
    if published:
        return WeightsFiles(fetch(published, offline, progress), published.source)
    file = demo_file() if name == DEMO else Path(name)
    remedy = f"give a file that ends in {', '.join(SUFFIXES)}"
    kind = file_kind(file, remedy)
    if kind == "folder" and file_kind(file / CONFIG, remedy) == "file":
        raise UsageError(f"{name}: is a folder in timm's layout; give {FOLDER_PREFIX}{name}")
    prefix, _, rest = name.partition(":")
    if (meant := f"{prefix.lower().replace('_', '-')}:") in (HUB_PREFIX, FOLDER_PREFIX) and kind is None:
        raise UsageError(f"weights {name!r} is unknown: did you mean {meant}{rest}?")
    if name == DEMO or name.lower().endswith(SUFFIXES) or "/" in name or kind == "file":
        return WeightsFiles(file, str(file))
    others = f"{HUB_PREFIX}USER/MODEL", f"{FOLDER_PREFIX}DIR"
    raise UsageError(
        f"{unknown_name('weights', name, [*PUBLISHED, DEMO, *others])} (a file ends in {', '.join(SUFFIXES)})"
    )


def _convert(file: Path, tensors: Mapping[str, Tensor], num_names: int | None) -> Checkpoint:
    try:
        return checkpoint.convert(tensors, num_names)
    except CheckpointError as error:
        raise refusal(file, error) from error


class _Assumption(NamedTuple):
    """What is assumed about weights that do not say it, and the option with which users choose something else."""

    text: str
    remedy: str = ""


def _choose_preset(requested: str | None, own: Preset | None) -> tuple[Preset, list[_Assumption]]:
    """Return the requested preset, else the weights' own, else torchvision's, and notes for the user."""
    if requested is None:
        if own:
            return own, []
        text = "the file names no preset: torchvision's is used"
        return PRESETS["torchvision"], [_Assumption(text, "choose another with --preset")]
    preset = named_preset(requested)
    if own and own.name != requested:
        return preset, [_Assumption(f"preset {requested} is used instead of the weights' own, {own.name}")]
    return preset, []


def _choose_classes(
    name: str, count: int, given: Classes | None, own: tuple[str, ...] | None
) -> tuple[Classes, list[_Assumption]]:
    """Return the given class names, else the weights' own, else ImageNet's (1000 classes) or numbers; and notes."""
    if given is not None:
        if len(given) != count:
            nodes = " (a name in the column parent is a node above classes)" if given.parents else ""
            raise UsageError(
                f"classes: {plural(len(given), 'name')}{nodes}, but {name} has {plural(count, 'class', 'classes')}; "
                "name each of them"
            )
        return given, []
    if own is not None:
        if len(own) != count:
            raise InceptionError(
                f"{name}: invalid metadata: classes has {plural(len(own), 'name')} for "
                f"{plural(count, 'class', 'classes')}; give --classes FILE (not for train), or other weights"
            )
        return Classes(own), []
    if count != 1000:
        classes = Classes(tuple(map(str, range(count))))
        text = f"{plural(count, 'class', 'classes')} without names: their numbers are used"
        return classes, [_Assumption(text, "name them with --classes FILE")]
    if name in PUBLISHED:
        return imagenet(), []
    text = "1000 classes without names: ImageNet's are used"
    return imagenet(), [_Assumption(text, "give others with --classes FILE")]


def _hash(file: Path) -> str:
    require_readable(file)
    with os_errors(file, FILE_REMEDY):
        state = file.stat()
        return _hash_of_state(file, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@lru_cache(maxsize=8)
def _hash_of_state(file: Path, *_: int) -> str:
    """Return the SHA-256 of a file; the same process computes it again only when the file has changed."""
    return sha256(file)
