"""`--decode gpu` gives the predictions of `exact`, from pixels that differ by a level or two.

Without a GPU torchvision's CPU decoder is used in place of nvJPEG.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from draw import pictures
from formats import FORMATS, drawn, saved
from hostile import write
from numpy.typing import NDArray
from PIL import Image, ImageOps
from running import Inception

from inception_cli.config import PRESETS, Crops, LoaderConfig, PixelConfig, RunConfig, Settings
from inception_cli.errors import InceptionError
from inception_cli.images import dataset, gpu_decode
from inception_cli.images.dataset import Batch, load_batches
from inception_cli.images.decode import Failure, FetchedFile, read_jpeg
from inception_cli.images.discovery import Discovery
from inception_cli.images.gpu_decode import GpuDecoder, tensor_views, upright
from inception_cli.images.preprocess import views
from inception_cli.inference.multi_gpu import MultiGpuPredictor
from inception_cli.inference.predictor import DevicePredictor, Predictor
from inception_cli.inference.resolve import resolve, resolve_plan
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage.input_list import InputList

PIXELS = PixelConfig(PRESETS["torchvision"], decode="gpu")


def tensor(image: Image.Image) -> torch.Tensor:
    """Return an image as the decoder does: (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("preset", sorted({*PRESETS} - {"timm-gluon"}))  # its views are those of timm
@pytest.mark.parametrize("crops", get_args(Crops))
def test_views_equal_those_of_pillow_within_two_levels(preset: str, crops: int) -> None:
    pixels = PixelConfig(PRESETS[preset], crops)
    for image in pictures(1 if crops == 144 else 3, seed=5):
        actual = tensor_views([tensor(image)], pixels)[0].numpy().astype(int)
        expected = views(image, pixels)

        assert actual.shape == expected.shape
        assert np.abs(actual - expected).max() <= 2


def test_images_of_different_sizes_are_resized_together() -> None:
    one, other = (tensor(image.resize(size)) for image, size in zip(pictures(2), [(400, 300), (311, 907)], strict=True))

    both = tensor_views([one, other], PIXELS).int()

    alone = torch.cat([tensor_views([one], PIXELS), tensor_views([other], PIXELS)]).int()
    assert (both - alone).abs().max() <= 1  # sums of another order


@pytest.mark.parametrize("preset", PRESETS)
def test_views_in_half_precision_differ_by_two_levels_at_most(preset: str) -> None:
    pixels = PixelConfig(PRESETS[preset])
    for image in pictures(3, seed=5):
        actual = tensor_views([tensor(image)], pixels, torch.float16)[0].numpy().astype(int)
        difference = np.abs(actual - views(image, pixels))

        assert difference.max() <= 2
        assert difference.mean() < 0.2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_tensors(orientation: int) -> None:
    image = drawn()
    exif = image.getexif()
    exif[274] = orientation
    image.info["exif"] = exif.tobytes()
    expected = ImageOps.exif_transpose(image)

    assert torch.equal(upright(tensor(image), orientation), tensor(expected))


def jpeg_bytes(**options: object) -> bytes:
    return saved(drawn(), "JPEG", **options)


def with_orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[274] = number
    return jpeg_bytes(exif=exif)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("baseline", jpeg_bytes()),
        ("no subsampling", jpeg_bytes(subsampling=0)),
        ("grey", saved(drawn().convert("L"), "JPEG")),
        ("restart markers", jpeg_bytes(restart_marker_rows=1)),
        ("rotated", with_orientation(6)),
    ],
)
def test_plain_jpegs_are_decoded_by_the_gpu(kind: str, data: bytes) -> None:
    jpeg = read_jpeg(FetchedFile("x.jpg", data), PIXELS)

    assert jpeg is not None
    assert jpeg.data.tobytes() == re.sub(rb"Exif\0\0....", bytes(10), data)
    assert jpeg.pixels == 90 * 60
    assert jpeg.orientation == (6 if kind == "rotated" else 1)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("empty", b""),
        ("progressive", jpeg_bytes(progressive=True)),
        ("CMYK", saved(drawn().convert("CMYK"), "JPEG")),
        ("RGB", jpeg_bytes(keep_rgb=True)),
        ("its end is missing", jpeg_bytes()[:-2]),
        ("cut in its header", jpeg_bytes()[:100]),
        ("PNG", FORMATS["png"][1]),
    ],
)
def test_other_files_fall_back_to_the_cpu(kind: str, data: bytes) -> None:
    assert read_jpeg(FetchedFile("x.jpg", data), PIXELS) is None


def test_max_pixels_holds() -> None:
    assert read_jpeg(FetchedFile("x.jpg", jpeg_bytes()), replace(PIXELS, max_pixels=90 * 60)) is not None
    assert read_jpeg(FetchedFile("x.jpg", jpeg_bytes()), replace(PIXELS, max_pixels=90 * 60 - 1)) is None


def test_without_exif_the_orientation_is_ignored() -> None:
    jpeg = read_jpeg(FetchedFile("x.jpg", with_orientation(6)), replace(PIXELS, exif=False))

    assert jpeg is not None
    assert jpeg.orientation == 1


@pytest.fixture
def mixed(tmp_path: Path, photos: Path) -> InputList:
    """Return the paths of photos, of other formats and of files that fail."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, photo in enumerate(sorted(photos.rglob("*.jpg"))):
        (folder / f"{number:02}.jpg").write_bytes(photo.read_bytes())
    damaged = bytearray(jpeg_bytes())
    damaged[200:400] = bytes(200)  # its tables
    others = {"03a.png": FORMATS["png"][1], "03b.jpg": jpeg_bytes()[:-300], "03c.jpg": bytes(damaged), "09a.jpg": b""}
    for name, data in (others | {"12a.jpg": jpeg_bytes(progressive=True), "12b.jpg": with_orientation(8)}).items():
        (folder / name).write_bytes(data)
    return InputList.of([*Discovery([str(folder)]), str(folder / "nowhere.jpg")])


def run_on_device(weights: str) -> RunConfig:
    """Return a run in batches of eight; every JPEG is decoded by the device, here the CPU."""
    settings = Settings((weights,), batch_size=8, workers=0, device="cpu", precision="fp32")
    exact = resolve(settings, replace(resolve_plan(settings), threads=torch.get_num_threads()))
    return replace(exact, pixels=replace(exact.pixels, decode="gpu"))


@pytest.fixture(scope="module")
def run(stub: str) -> RunConfig:
    """Return a run of the stub network."""
    return run_on_device(stub)


def predict(predictor: Predictor, paths: Sequence[str], start: int = 0) -> list[Prediction]:
    """Return the predictions from the input at position `start` on."""
    results = predictor.predict(paths, [range(start, len(paths))])
    return [prediction for result in results for prediction in result.predictions]


def assert_close(actual: Sequence[Prediction], expected: Sequence[Prediction]) -> None:
    """Assert that predictions are the same, with scores that may differ by what a level of a pixel changes."""
    assert [(each.path, each.status, each.error) for each in actual] == [
        (each.path, each.status, each.error) for each in expected
    ]
    for one, other in zip(actual, expected, strict=True):
        assert one.classes[:1] == other.classes[:1], one.path
        assert one.scores[:1] == pytest.approx(other.scores[:1], abs=0.02), one.path


def test_predictions_equal_those_of_exact(mixed: InputList) -> None:
    run = run_on_device("demo")
    few = InputList.of(
        [path for path in mixed if not re.search(r"[124578]\.jpg", path)]
    )  # every third photo, all others
    exact = replace(run, pixels=replace(run.pixels, decode="exact"))

    actual = predict(DevicePredictor(run), few)

    assert {each.status for each in actual} == {"ok", "truncated", "corrupt", "missing"}
    assert_close(actual, predict(DevicePredictor(exact), few))


def test_workers_send_files_unchanged(run: RunConfig, mixed: InputList) -> None:
    expected = predict(DevicePredictor(run), mixed)

    assert predict(DevicePredictor(replace(run, loader=replace(run.loader, workers=2))), mixed) == expected
    assert predict(DevicePredictor(run), mixed, start=16) == expected[16:]


@pytest.mark.slow
def test_several_processes_give_the_same_predictions(run: RunConfig, mixed: InputList) -> None:
    assert predict(MultiGpuPredictor(run, ("cpu", "cpu")), mixed) == predict(DevicePredictor(run), mixed)


def batch_of(paths: Sequence[str], pixels: PixelConfig = PIXELS) -> Batch:
    return next(load_batches(paths, pixels, LoaderConfig(64)))


def test_a_batch_holds_undecoded_files_in_place_of_pixels(mixed: InputList) -> None:
    batch = batch_of(mixed)

    assert batch.jpegs is not None
    assert len(batch) == len(mixed)
    assert (
        len(batch.jpegs.unpack()) == len(mixed) - 6
    )  # the PNG, the cut, the damaged, the empty, the progressive, the missing
    assert len(batch.pixels) == 6


def test_undecoded_files_are_limited_in_memory(mixed: InputList, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batch_of(mixed)
    assert whole.jpegs is not None
    monkeypatch.setattr(dataset, "MAX_UNDECODED", len(whole.jpegs.data) // 2)

    half = batch_of(mixed)

    assert half.jpegs is not None
    held = [*half.jpegs.unpack()]
    assert held == [*whole.jpegs.unpack()][: len(held)]
    assert len(half.jpegs.data) < 0.7 * len(whole.jpegs.data)
    assert len(half) == len(whole)
    one, other = (GpuDecoder(PIXELS, "cpu")(batch) for batch in (half, whole))
    assert (one.pixels.int() - other.pixels.int()).abs().max() <= 6
    assert one.failures == other.failures


def test_files_that_the_gpu_cannot_decode_are_decoded_by_pillow(
    mixed: InputList, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = GpuDecoder(PIXELS, "cpu")(batch_of(mixed))
    decoder, calls = GpuDecoder(PIXELS, "cpu"), []
    decode = decoder._decode_files

    def fail_for_odd_sizes(files: list[torch.Tensor]) -> list[torch.Tensor]:
        calls.append(len(files))
        if any(len(file) % 2 for file in files):
            raise RuntimeError("nvjpegDecodeBatched failed: 5")
        return decode(files)

    monkeypatch.setattr(decoder, "_decode_files", fail_for_odd_sizes)
    actual = decoder(batch_of(mixed))

    assert calls[0] > 1
    assert set(calls[1:]) == {1}
    assert actual.failures == expected.failures
    assert (actual.pixels.int() - expected.pixels.int()).abs().max() <= 6  # libjpeg's versions differ in colours
    assert actual.pixels.flatten(1).any(1).sum() == len(mixed) - len(actual.failures)


def test_files_decoded_together_are_limited_in_memory(mixed: InputList, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = GpuDecoder(PIXELS, "cpu")(batch_of(mixed))
    monkeypatch.setattr(gpu_decode, "MAX_DECODED", 300_000)
    decoder, sizes = GpuDecoder(PIXELS, "cpu"), []
    decode = decoder._decode

    def counted(files: Sequence[NDArray[np.uint8]]) -> list[torch.Tensor]:
        sizes.append(sum(map(pixels_of, files)))
        return decode(files)

    monkeypatch.setattr(decoder, "_decode", counted)
    actual = decoder(batch_of(mixed))

    assert torch.equal(actual.pixels, whole.pixels)
    small = [pixels for pixels in sizes if pixels <= 300_000]
    assert len(small) > len(sizes) / 2  # the others are single images that are larger


def pixels_of(file: NDArray[np.uint8]) -> int:
    with Image.open(BytesIO(file.tobytes())) as image:
        return image.width * image.height


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def test_hostile_files_have_the_same_status_as_with_exact(device: str, tmp_path: Path) -> None:
    paths = [path for path, kind in write(tmp_path / "hostile") if not (kind and kind.interference)]
    bounded = replace(PIXELS, max_pixels=1_000_000)
    decoder = GpuDecoder(bounded, device)
    exact = load_batches(paths, replace(bounded, decode="exact"), LoaderConfig(64))

    for actual, expected in zip(map(decoder, load_batches(paths, bounded, LoaderConfig(64))), exact, strict=True):
        assert {offset: failure.status for offset, failure in actual.failures} == {
            offset: failure.status for offset, failure in expected.failures
        }, [paths[actual.first + offset] for offset, _ in {*actual.failures} ^ {*expected.failures}]
        assert len(actual.pixels) == len(expected.pixels)


@pytest.mark.parametrize("error", [RuntimeError("not compiled with nvJPEG"), ImportError("no torchcodec"), OSError()])
def test_without_a_decoder_there_is_an_error_in_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device, files: object) -> None:
        raise error

    monkeypatch.setattr(gpu_decode, "DECODERS", (fail, fail))
    message = r"^decode gpu: torchvision .* cannot decode JPEGs on cpu; pip install torchcodec, or use decode fast$"
    with pytest.raises(InceptionError, match=message):
        GpuDecoder(PIXELS, "cpu")


@pytest.mark.parametrize("decoder", gpu_decode.DECODERS)
def test_each_decoder_gives_stored_pixels(decoder: gpu_decode.Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_decode, "DECODERS", (decoder,))
    jpeg = read_jpeg(FetchedFile("x.jpg", with_orientation(6)), PIXELS)
    assert jpeg is not None

    (image,) = GpuDecoder(PIXELS, "cpu")._decode([jpeg.data.copy()])

    with Image.open(BytesIO(with_orientation(6))) as stored:
        assert torch.equal(image, tensor(stored))


def test_decode_gpu_without_a_gpu_is_an_error_in_one_line(inception: Inception, photos: Path, tmp_path: Path) -> None:
    ended = inception("classify", photos, "-w", "demo", "--decode", "gpu", "--device", "cpu", "-o", tmp_path / "p.csv")

    assert ended.code == 2
    assert "decode gpu: the network runs on cpu, not on a CUDA GPU" in ended.err
    assert not (tmp_path / "p.csv").exists()


def test_a_failure_of_pillow_is_a_failure_of_the_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg_bytes())
    decoder = GpuDecoder(PIXELS, "cpu")

    def fail(files: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(decoder, "_decode_files", fail)
    monkeypatch.setattr(gpu_decode, "read", lambda source, pixels: Failure("corrupt", "damaged image"))

    batch = decoder(batch_of([str(tmp_path / "x.jpg")]))

    assert batch.failures == ((0, Failure("corrupt", "damaged image")),)
    assert not batch.pixels.any()


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_predictions_on_a_gpu_equal_those_of_exact(run: RunConfig, mixed: InputList, workers: int) -> None:
    on_gpu = replace(run, plan=replace(run.plan, device="cuda:0"), loader=replace(run.loader, workers=workers))
    exact = replace(on_gpu, pixels=replace(run.pixels, decode="exact"))

    actual = predict(DevicePredictor(on_gpu), mixed)

    assert_close(actual, predict(DevicePredictor(exact), mixed))
    assert predict(DevicePredictor(on_gpu), mixed) == actual  # nothing is overwritten while the network reads it
