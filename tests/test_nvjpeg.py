"""`--decode gpu`: the rows of `exact`, but for a level or two. torchvision's own decoder stands in for nvJPEG here."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from draw import pictures
from formats import FORMATS, drawn, saved
from hostile import write
from numpy.typing import NDArray
from PIL import Image, ImageOps
from running import Inception

from inception_cli import gpus, predict
from inception_cli.errors import InceptionError
from inception_cli.images import loader, nvjpeg, tensors
from inception_cli.images.decode import Failure, Fetched, undecoded
from inception_cli.images.inputs import Inputs, PathList
from inception_cli.images.loader import Batch, Loading, batches
from inception_cli.images.nvjpeg import Decoder
from inception_cli.images.preprocess import CROPS, PRESETS, Pixels, views
from inception_cli.results.rows import Prediction
from inception_cli.settings import Run, Settings, resolve

PIXELS = Pixels(PRESETS["torchvision"], decode="gpu")


def tensor(image: Image.Image) -> torch.Tensor:
    """A picture as the decoder gives it: (1, 3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("crops", CROPS)
def test_views_are_those_of_pillow(preset: str, crops: int) -> None:
    pixels = Pixels(PRESETS[preset], crops)
    for image in pictures(3, seed=5):
        found = tensors.views(tensor(image), pixels)[0].numpy().astype(int)
        expected = views(image, pixels)

        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2


def test_pictures_alike_in_size_are_resized_together() -> None:
    one, other = (tensor(image.resize((400, 300))) for image in pictures(2))

    both = tensors.views(torch.cat([one, other]), PIXELS)

    assert torch.equal(both, torch.cat([tensors.views(one, PIXELS), tensors.views(other, PIXELS)]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_exif_says(orientation: int) -> None:
    image = drawn()
    exif = image.getexif()
    exif[274] = orientation
    image.info["exif"] = exif.tobytes()
    upright = ImageOps.exif_transpose(image)

    assert torch.equal(tensors.turned(tensor(image), orientation), tensor(upright))


def jpeg(**options: object) -> bytes:
    return saved(drawn(), "JPEG", **options)


def with_orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[274] = number
    return jpeg(exif=exif)


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("baseline", jpeg()),
        ("no subsampling", jpeg(subsampling=0)),
        ("grey", saved(drawn().convert("L"), "JPEG")),
        ("restart markers", jpeg(restart_marker_rows=1)),
        ("turned", with_orientation(6)),
    ],
)
def test_plain_jpegs_are_left_to_the_gpu(what: str, data: bytes) -> None:
    found = undecoded(Fetched("x.jpg", data), PIXELS)

    assert found is not None
    assert found.data.tobytes() == data
    assert found.pixels == 90 * 60
    assert found.turn == (6 if what == "turned" else 1)


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("empty", b""),
        ("progressive", jpeg(progressive=True)),
        ("CMYK", saved(drawn().convert("CMYK"), "JPEG")),
        ("RGB", jpeg(keep_rgb=True)),
        ("its end is missing", jpeg()[:-2]),
        ("cut in its header", jpeg()[:100]),
        ("PNG", FORMATS["png"][1]),
    ],
)
def test_others_are_decoded_as_ever(what: str, data: bytes) -> None:
    assert undecoded(Fetched("x.jpg", data), PIXELS) is None


def test_the_bound_on_pixels_holds() -> None:
    assert undecoded(Fetched("x.jpg", jpeg()), replace(PIXELS, max_pixels=90 * 60)) is not None
    assert undecoded(Fetched("x.jpg", jpeg()), replace(PIXELS, max_pixels=90 * 60 - 1)) is None


def test_without_exif_nothing_is_turned() -> None:
    found = undecoded(Fetched("x.jpg", with_orientation(6)), replace(PIXELS, exif=False))

    assert found is not None
    assert found.turn == 1


@pytest.fixture
def mixed(tmp_path: Path, photos: Path) -> PathList:
    """Photos with all that may stand between them."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for number, photo in enumerate(sorted(photos.rglob("*.jpg"))):
        (mixed / f"{number:02}.jpg").write_bytes(photo.read_bytes())
    damaged = bytearray(jpeg())
    damaged[200:400] = bytes(200)  # its tables
    others = {"03a.png": FORMATS["png"][1], "03b.jpg": jpeg()[:-300], "03c.jpg": bytes(damaged), "09a.jpg": b""}
    for name, data in (others | {"12a.jpg": jpeg(progressive=True), "12b.jpg": with_orientation(8)}).items():
        (mixed / name).write_bytes(data)
    return PathList.of([*Inputs([str(mixed)]), str(mixed / "nowhere.jpg")])


@pytest.fixture(scope="module")
def run() -> Run:
    """The demo weights in batches of eight, every JPEG left to the device, which is the processor."""
    settings = Settings(("demo",), batch_size=8, workers=0, device="cpu", precision="fp32")
    exact = replace(resolve(settings), threads=torch.get_num_threads())
    return replace(exact, pixels=replace(exact.pixels, decode="gpu"))


def flat(found: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    return [row for rows in found for row in rows]


def assert_alike(found: Sequence[Prediction], expected: Sequence[Prediction]) -> None:
    """The same rows; scores but for what a level of a pixel does."""
    assert [(row.path, row.status, row.error) for row in found] == [
        (row.path, row.status, row.error) for row in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.classes[:1] == other.classes[:1], one.path
        assert one.scores[:1] == pytest.approx(other.scores[:1], abs=0.02), one.path


def test_rows_are_those_of_exact(run: Run, mixed: PathList) -> None:
    exact = replace(run, pixels=replace(run.pixels, decode="exact"))

    found = flat([*predict.classify(mixed, run)])

    assert {row.status for row in found} == {"ok", "truncated", "corrupt", "missing"}
    assert_alike(found, flat([*predict.classify(mixed, exact)]))


def test_workers_hand_files_over_unchanged(run: Run, mixed: PathList) -> None:
    plain = [*predict.classify(mixed, run)]

    assert [*predict.classify(mixed, replace(run, loading=replace(run.loading, workers=2)))] == plain
    assert [*predict.classify(mixed, run, start=16)] == plain[2:]


def test_processes_decode_what_is_theirs(run: Run, mixed: PathList) -> None:
    assert [*gpus.classify(mixed, run, devices=("cpu", "cpu"))] == [*predict.classify(mixed, run)]


def batch_of(paths: Sequence[str], pixels: Pixels = PIXELS) -> Batch:
    return next(batches(paths, pixels, Loading(64)))


def test_a_batch_holds_files_instead_of_pixels(mixed: PathList) -> None:
    batch = batch_of(mixed)

    assert batch.jpegs is not None
    assert len(batch) == len(mixed)
    assert len(batch.jpegs.files()) == len(mixed) - 5  # the PNG, the cut, the empty, the progressive, the missing
    assert len(batch.pixels) == 5


def test_files_are_held_as_far_as_memory_goes(mixed: PathList, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batch_of(mixed)
    assert whole.jpegs is not None
    monkeypatch.setattr(loader, "UNDECODED", len(whole.jpegs.data) // 2)

    half = batch_of(mixed)

    assert half.jpegs is not None
    held = [*half.jpegs.files()]
    assert held == [*whole.jpegs.files()][: len(held)]
    assert len(half.jpegs.data) < 0.7 * len(whole.jpegs.data)
    assert len(half) == len(whole)
    one, other = (Decoder(PIXELS, "cpu")(batch) for batch in (half, whole))
    assert (one.pixels.int() - other.pixels.int()).abs().max() <= 6
    assert one.failures == other.failures


def test_what_the_gpu_does_not_take_pillow_does(mixed: PathList, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Decoder(PIXELS, "cpu")(batch_of(mixed))
    decoder, decode, asked = Decoder(PIXELS, "cpu"), torchvision.io.decode_jpeg, []

    def picky(files: list[torch.Tensor], **words: object) -> object:
        asked.append(len(files))
        if any(len(file) % 2 for file in files):
            raise RuntimeError("nvjpegDecodeBatched failed: 5")
        return decode(files, **words)

    monkeypatch.setattr(torchvision.io, "decode_jpeg", picky)
    found = decoder(batch_of(mixed))

    assert asked[0] > 1
    assert set(asked[1:]) == {1}
    assert found.failures == expected.failures
    assert (found.pixels.int() - expected.pixels.int()).abs().max() <= 6  # libjpeg's versions differ in colours
    assert found.pixels.flatten(1).any(1).sum() == len(mixed) - len(found.failures)


def test_files_are_decoded_together_as_far_as_memory_goes(mixed: PathList, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Decoder(PIXELS, "cpu")(batch_of(mixed))
    monkeypatch.setattr(nvjpeg, "AT_ONCE", 300_000)
    decoder, held = Decoder(PIXELS, "cpu"), []
    pictures_of = decoder._pictures

    def counted(files: Sequence[NDArray[np.uint8]]) -> list[torch.Tensor]:
        held.append(sum(map(pixels_of, files)))
        return pictures_of(files)

    monkeypatch.setattr(decoder, "_pictures", counted)
    parts = decoder(batch_of(mixed))

    assert torch.equal(parts.pixels, whole.pixels)
    good = [pixels for pixels in held if pixels <= 300_000]
    assert len(good) > len(held) / 2  # the others are single photos over the bound


def pixels_of(file: NDArray[np.uint8]) -> int:
    with Image.open(BytesIO(file.tobytes())) as image:
        return image.width * image.height


def test_hostile_files_have_the_statuses_of_exact(tmp_path: Path) -> None:
    paths = [path for path, kind in write(tmp_path / "hostile") if not (kind and (kind.befalls or kind.call))]
    bounded = replace(PIXELS, max_pixels=1_000_000)
    decoder = Decoder(bounded, "cpu")
    exact = batches(paths, replace(bounded, decode="exact"), Loading(64))

    for found, expected in zip(map(decoder, batches(paths, bounded, Loading(64))), exact, strict=True):
        assert {offset: failure.status for offset, failure in found.failures} == {
            offset: failure.status for offset, failure in expected.failures
        }, [paths[found.first + offset] for offset, _ in {*found.failures} ^ {*expected.failures}]
        assert len(found.pixels) == len(expected.pixels)


def test_a_torchvision_that_cannot_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(files: object, **words: object) -> None:
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support")

    monkeypatch.setattr(torchvision.io, "decode_jpeg", cannot)
    with pytest.raises(InceptionError, match=r"^--decode gpu: torchvision .* decodes nothing on cpu; leave it out$"):
        Decoder(PIXELS, "cpu")


def test_without_a_gpu_it_is_a_line(inception: Inception, photos: Path, tmp_path: Path) -> None:
    ended = inception("classify", photos, "-w", "demo", "--decode", "gpu", "--device", "cpu", "-o", tmp_path / "p.csv")

    assert ended.code == 2
    assert "--decode gpu: the network runs on cpu, not on a CUDA GPU; leave it out" in ended.err
    assert not (tmp_path / "p.csv").exists()


def test_a_failure_of_pillow_is_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg())
    decoder = Decoder(PIXELS, "cpu")

    def cannot(files: object, **words: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torchvision.io, "decode_jpeg", cannot)
    monkeypatch.setattr(nvjpeg, "read", lambda source, pixels: Failure("corrupt", "damaged picture"))

    found = decoder(batch_of([str(tmp_path / "x.jpg")]))

    assert found.failures == ((0, Failure("corrupt", "damaged picture")),)
    assert not found.pixels.any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_gives_the_rows_of_exact(run: Run, mixed: PathList, workers: int) -> None:
    there = replace(run, plan=replace(run.plan, device="cuda:0"), loading=replace(run.loading, workers=workers))
    exact = replace(there, pixels=replace(run.pixels, decode="exact"))

    found = flat([*predict.classify(mixed, there)])

    assert_alike(found, flat([*predict.classify(mixed, exact)]))
    assert flat([*predict.classify(mixed, there)]) == found  # nothing is overwritten while the network reads it
