"""Decode and resize JPEGs on a GPU, with nvJPEG. Files that it cannot decode are decoded by Pillow.

TorchCodec calls nvJPEG where it is installed; torchvision's decoder, which does the same, is deprecated.
"""

import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inception_cli.config import PixelConfig, Preset
from inception_cli.errors import InceptionError
from inception_cli.images.dataset import Batch
from inception_cli.images.decode import TRANSPOSITIONS, Failure, FetchedFile, Jpeg, read
from inception_cli.images.preprocess import centre_offset, resized_size, shipped_views, short_sides, views

#: Pixels that are decoded together: 200 MB as uint8, 400 MB as fp16.
MAX_DECODED = 64_000_000
#: Images whose sides are equal after rounding up to a multiple of this are resized together.
SIDE_STEP = 256
ROWS, COLUMNS = -2, -1
FLIPS: dict[int, tuple[int, ...]] = {  # axes by EXIF orientation
    2: (COLUMNS,),
    3: (ROWS, COLUMNS),
    4: (ROWS,),
    6: (ROWS,),
    7: (ROWS, COLUMNS),
    8: (COLUMNS,),
}
SWAPPED_AXES = (5, 6, 7, 8)  # EXIF orientations

#: On a device, decode the bytes of files, uint8, to RGB images, uint8 (3, height, width), as they are stored.
Decoder = Callable[[torch.device, list[Tensor]], list[Tensor]]


class GpuDecoder:
    """Decode the JPEGs of batches on `device`, on a CUDA stream for each thread, so that the network runs meanwhile.

    Raises InceptionError if neither TorchCodec nor torchvision can. On "cpu" their CPU decoders replace nvJPEG.
    """

    def __init__(self, config: PixelConfig, device: str) -> None:
        self.config, self.device = config, torch.device(device)
        cuda = self.device.type == "cuda"
        self._streams = threading.local()
        self._dtype = torch.float16 if cuda else torch.float32  # of pixels and weights while they are resized
        self._decode_files = _find_decoder(self.device)

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the pixels of all its images, (N, V, S, S, 3), on the device; wait until they are."""
        files = batch.jpegs.unpack() if batch.jpegs else {}
        decoded = set(range(len(batch))) - files.keys()
        failures = list(batch.failures)
        stream = self._stream()
        with torch.cuda.stream(stream) if stream else nullcontext():
            side = self.config.preset.size
            shape = len(batch), shipped_views(self.config.crops), side, side, 3
            pixels = torch.zeros(shape, dtype=torch.uint8, device=self.device)
            pixels[sorted(decoded)] = batch.pixels.to(self.device, non_blocking=True)
            for group in _groups(files):
                for offsets, result in self._views(group):
                    if isinstance(result, Failure):
                        failures += [(offset, result) for offset in offsets]
                    else:
                        pixels[offsets] = result
        if stream:
            pixels.record_stream(torch.cuda.current_stream(self.device))
            stream.synchronize()
        return Batch(batch.first, pixels, tuple(sorted(failures, key=lambda failure: failure[0])))

    def _stream(self) -> "torch.cuda.Stream | None":
        """Return the stream of this thread; None without a GPU."""
        if self.device.type == "cuda" and not hasattr(self._streams, "own"):
            self._streams.own = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        return getattr(self._streams, "own", None)

    def _views(self, files: dict[int, Jpeg]) -> Iterator[tuple[list[int], Tensor | Failure]]:
        """Yield offsets of files and their views (n, V, S, S, 3), or their failure.

        The files are decoded together; if that fails, one by one; if that fails, by Pillow.
        """
        try:
            yield from self._views_by_device(files)
        except RuntimeError:  # nvJPEG cannot decode one of them, or there is not enough memory
            for offset, file in files.items():
                try:
                    yield from self._views_by_device({offset: file})
                except RuntimeError:
                    yield [offset], self._views_by_pillow(file)

    def _views_by_device(self, files: dict[int, Jpeg]) -> list[tuple[list[int], Tensor]]:
        """Return offsets and views, those of images of similar size together; RuntimeError if one is not decodable."""
        images = self._decode([file.data for file in files.values()])
        similar: defaultdict[tuple[int, int], dict[int, Tensor]] = defaultdict(dict)
        for image, (offset, file) in zip(images, files.items(), strict=True):
            turned = upright(image, file.orientation)
            height, width = turned.shape[1:]
            similar[-height // SIDE_STEP, -width // SIDE_STEP][offset] = turned
        return [([*group], tensor_views([*group.values()], self.config, self._dtype)) for group in similar.values()]

    def _decode(self, files: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        """Return the RGB image of each file, uint8 (3, height, width)."""
        if stream := self._stream():
            # nvJPEG writes into memory of the stream before the work that is queued there is done (pytorch/vision
            # pull request 9606), so nothing may be queued.
            stream.synchronize()
        return self._decode_files([*map(torch.from_numpy, files)])

    def _views_by_pillow(self, file: Jpeg) -> Tensor | Failure:
        image = read(FetchedFile("a.jpg", file.data.tobytes()), self.config)
        if isinstance(image, Failure):
            return image
        if file.orientation in TRANSPOSITIONS:
            image = image.transpose(TRANSPOSITIONS[file.orientation])
        return torch.from_numpy(views(image, self.config)).to(self.device)


def _find_decoder(device: torch.device) -> Callable[[list[Tensor]], list[Tensor]]:
    """Return the first decoder that decodes a tiny JPEG on `device`; raise InceptionError if there is none."""
    sample = BytesIO()
    Image.new("RGB", (16, 16)).save(sample, "JPEG")
    for decoder in DECODERS:
        decode = partial(decoder, device)
        try:
            decode([torch.frombuffer(bytearray(sample.getvalue()), dtype=torch.uint8)])
        except (RuntimeError, ImportError, OSError) as failure:  # built without it, not installed, not loadable
            error = failure
        else:
            return decode
    raise InceptionError(
        f"decode gpu: torchvision {version('torchvision')} cannot decode JPEGs on {device}; "
        "pip install torchcodec, or use decode fast"
    ) from error


def _decode_with_torchcodec(device: torch.device, files: list[Tensor]) -> list[Tensor]:
    from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined]  # here: importing it would slow down all other runs

    images = decode_jpeg(files, mode="RGB", device=device)
    return list(images)


def _decode_with_torchvision(device: torch.device, files: list[Tensor]) -> list[Tensor]:
    from torchvision.io import ImageReadMode, decode_jpeg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        images: list[Tensor] = decode_jpeg(files, mode=ImageReadMode.RGB, device=device)
    return images


DECODERS = (_decode_with_torchcodec, _decode_with_torchvision)  # the first that works decodes


def tensor_views(images: Sequence[Tensor], config: PixelConfig, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the views of N images, uint8 (3, height, width), like preprocess.views: uint8 (N, V, S, S, 3).

    Values differ from those by one or two: Pillow's weights have 22 bits, cv2's 11, those of fp16 11.
    """
    preset, crops = config.preset, config.crops
    sizes = [(image.shape[2], image.shape[1]) for image in images]
    padded = _pad(images, dtype)
    made = []
    for short in short_sides(config):
        resized = [resized_size(*size, short) for size in sizes]
        if crops == 1:
            corners = [tuple(centre_offset(side, preset.size) for side in size) for size in resized]
            made.append(_resize(padded, sizes, resized, corners, preset.size, preset))
            continue
        for share in (0, 1, 2) if crops == 144 else (1,):
            corners = [tuple(round(share * (side - short) / 2) for side in size) for size in resized]
            square = _resize(padded, sizes, resized, corners, short, preset)
            made += _views_of_square(square, preset, dtype, whole=crops > 10)
            if crops == 10:
                made += _views_of_square(square.flip(2), preset, dtype, whole=False)
    return torch.stack(made, 1)


def upright(image: Tensor, orientation: int) -> Tensor:
    """Return an image (3, H, W) with an EXIF orientation of 1 to 8 applied."""
    flipped = image.flip(FLIPS[orientation]) if orientation in FLIPS else image
    return flipped.transpose(ROWS, COLUMNS) if orientation in SWAPPED_AXES else flipped


def _pad(images: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return images (3, height, width) as one tensor (N, 3, H, W), with zeros at the right and at the bottom."""
    height, width = (max(image.shape[axis] for image in images) for axis in (ROWS, COLUMNS))
    height, width = (-(-side // 8) * 8 for side in (height, width))  # tensor cores need aligned lines
    padded = torch.zeros((len(images), 3, height, width), dtype=dtype, device=images[0].device)
    for place, image in zip(padded, images, strict=True):
        place[:, : image.shape[ROWS], : image.shape[COLUMNS]] = image
    return padded


def _views_of_square(square: Tensor, preset: Preset, dtype: torch.dtype, whole: bool) -> Iterator[Tensor]:
    """Yield the four corners and the centre of squares (N, s, s, 3), each uint8 (N, S, S, 3), and with `whole` each
    square resized to S."""
    size, side = preset.size, square.shape[1]
    end, centre = side - size, centre_offset(side, size)
    for left, top in ((0, 0), (end, 0), (0, end), (end, end), (centre, centre)):
        yield square[:, top : top + size, left : left + size]
    if whole:
        images, number = square.permute(0, 3, 1, 2).to(dtype), len(square)
        yield _resize(images, [(side, side)] * number, [(size, size)] * number, [(0, 0)] * number, size, preset)


def _resize(
    images: Tensor,
    sizes: Sequence[tuple[int, ...]],
    resized: Sequence[tuple[int, ...]],
    corners: Sequence[tuple[int, ...]],
    side: int,
    preset: Preset,
) -> Tensor:
    """Return a square of `side` pixels of each image (N, 3, H, W), resized from `sizes` to `resized`.

    Sizes are (width, height), corners (left, top) in the resized image. The result is uint8 (N, side, side, 3).
    """
    number, _, height, width = images.shape
    geometry = torch.tensor([sizes, resized, corners], dtype=torch.float32, device=images.device)  # (3, N, 2)
    columns, rows = (_weights(geometry[..., axis], side, (width, height)[axis], preset) for axis in (0, 1))
    columns, rows = columns.to(images.dtype), rows.to(images.dtype)
    # A matrix product for each axis: all weights outside a pixel's neighbourhood are zero, but the tensor cores of a
    # GPU are ten times faster than interpolate, and one product resizes images of different sizes.
    lines = torch.bmm(columns, images.reshape(number, 3 * height, width).transpose(1, 2))  # (N, side, 3 · H)
    if preset.antialias:
        lines.round_().clamp_(0, 255)  # Pillow resizes horizontally, then vertically, and rounds in between
    squares = torch.bmm(lines.view(number, side * 3, height), rows.transpose(1, 2))  # (N, side · 3, side)
    return squares.round_().clamp_(0, 255).view(number, side, 3, side).permute(0, 3, 1, 2).to(torch.uint8)


def _weights(geometry: Tensor, side: int, length: int, preset: Preset) -> Tensor:
    """Return the weights (N, side, length) that resize lines of `source` pixels, padded to `length`, to `target`.

    `geometry` (3, N) is source, target and first. They give the pixels from `first` on.
    """
    source, target, first = geometry.unbind()
    scale = (source / target).view(-1, 1, 1)
    pixels = torch.arange(length, device=source.device)
    centre = (first.view(-1, 1, 1) + torch.arange(side, device=source.device).view(-1, 1) + 0.5) * scale
    distance = (pixels + 0.5 - centre).div_(scale.clamp(min=1) if preset.antialias else 1).abs_()
    weights = _bicubic(distance) if preset.filter == "bicubic" else distance.neg_().add_(1).clamp_(min=0)
    weights *= pixels < source.view(-1, 1, 1)
    return weights.div_(weights.sum(2, keepdim=True))


def _bicubic(x: Tensor) -> Tensor:
    """Return Keys' cubic convolution kernel with a = -0.5, Pillow's, of distances x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


def _groups(files: dict[int, Jpeg]) -> Iterator[dict[int, Jpeg]]:
    """Split files into groups of at most MAX_DECODED pixels, or of a single file."""
    group: dict[int, Jpeg] = {}
    pixels = 0
    for offset, file in files.items():
        if group and pixels + file.pixels > MAX_DECODED:
            yield group
            group, pixels = {}, 0
        group[offset] = file
        pixels += file.pixels
    if group:
        yield group
