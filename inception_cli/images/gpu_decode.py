"""Decode and resize JPEGs on a GPU, with nvJPEG. Files that it cannot decode are decoded by Pillow."""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from inception_cli.config import PixelConfig, Preset
from inception_cli.errors import InceptionError
from inception_cli.images.dataset import Batch
from inception_cli.images.decode import Failure, FetchedFile, Jpeg, read
from inception_cli.images.preprocess import centre_offset, resized_size, shipped_views, short_sides, views

#: Pixels that are decoded together: 200 MB as uint8, 800 MB while they are resized.
MAX_DECODED = 64_000_000
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


class GpuDecoder:
    """Decode the JPEGs of batches on `device`, on a CUDA stream of its own, so that the network runs meanwhile.

    Raises InceptionError if this torchvision cannot. On "cpu" torchvision's CPU decoder is used instead of nvJPEG.
    """

    def __init__(self, config: PixelConfig, device: str) -> None:
        self.config, self.device = config, torch.device(device)
        cuda = self.device.type == "cuda"
        self._stream = torch.cuda.Stream(self.device) if cuda else None  # type: ignore[no-untyped-call]
        sample = BytesIO()
        Image.new("RGB", (16, 16)).save(sample, "JPEG")
        try:
            self._decode([np.frombuffer(bytearray(sample.getvalue()), np.uint8)])
        except (RuntimeError, ImportError) as error:  # ImportError: a torchvision without decoders
            raise InceptionError(
                f"decode gpu: torchvision {version('torchvision')} cannot decode JPEGs on {device}; use decode fast"
            ) from error

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the pixels of all its images, (N, V, S, S, 3), on the device; wait until they are."""
        files = batch.jpegs.unpack() if batch.jpegs else {}
        decoded = set(range(len(batch))) - files.keys()
        failures = list(batch.failures)
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
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
        if self._stream:
            pixels.record_stream(torch.cuda.current_stream(self.device))
            self._stream.synchronize()
        return Batch(batch.first, pixels, tuple(sorted(failures, key=lambda failure: failure[0])))

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
        """Return offsets and views, images of the same size together; raise RuntimeError if one is not decodable."""
        images = self._decode([file.data for file in files.values()])
        same_size: defaultdict[tuple[torch.Size, int], dict[int, Tensor]] = defaultdict(dict)
        for image, (offset, file) in zip(images, files.items(), strict=True):
            same_size[image.shape, file.orientation][offset] = image
        return [
            ([*group], tensor_views(upright(torch.stack([*group.values()]), orientation), self.config))
            for (_, orientation), group in same_size.items()
        ]

    def _decode(self, files: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        """Return the RGB image of each file, uint8 (3, height, width)."""
        from torchvision.io import ImageReadMode, decode_jpeg  # here: importing it would slow down all other runs

        if self._stream:
            # nvJPEG writes into memory of the stream before the work that is queued there is done (pytorch/vision
            # pull request 9606), so nothing may be queued.
            self._stream.synchronize()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            data = [*map(torch.from_numpy, files)]
            images: list[Tensor] = decode_jpeg(data, mode=ImageReadMode.RGB, device=self.device)
        return images

    def _views_by_pillow(self, file: Jpeg) -> Tensor | Failure:
        image = read(FetchedFile("a.jpg", file.data.tobytes()), self.config)
        return image if isinstance(image, Failure) else torch.from_numpy(views(image, self.config)).to(self.device)


def tensor_views(images: Tensor, config: PixelConfig) -> Tensor:
    """Return the views of N images of the same size, uint8 (N, 3, H, W), like preprocess.views: uint8 (N, V, S, S, 3).

    Values differ from those by one or two: Pillow's weights have 22 bits, cv2's 11.
    """
    preset, crops = config.preset, config.crops
    height, width = images.shape[-2:]
    made = []
    for short in short_sides(config):
        new_width, new_height = resized_size(width, height, short)
        resized = _resize(images, new_height, new_width, preset)
        if crops == 1:
            left, top = (centre_offset(side, preset.size) for side in (new_width, new_height))
            made.append(_crop(resized, left, top, preset.size))
            continue
        for share in (0, 1, 2) if crops == 144 else (1,):
            left, top = (round(share * (side - short) / 2) for side in (new_width, new_height))
            square = _crop(resized, left, top, short)
            made += _views_of_square(square, preset, whole=crops > 10)
            if crops == 10:
                made += _views_of_square(square.flip(COLUMNS), preset, whole=False)
    return torch.stack(made, 1).permute(0, 1, 3, 4, 2)


def upright(images: Tensor, orientation: int) -> Tensor:
    """Return images (N, 3, H, W) with an EXIF orientation of 1 to 8 applied."""
    flipped = images.flip(FLIPS[orientation]) if orientation in FLIPS else images
    return flipped.transpose(ROWS, COLUMNS) if orientation in SWAPPED_AXES else flipped


def _views_of_square(square: Tensor, preset: Preset, whole: bool) -> Iterator[Tensor]:
    """Yield the four corners and the centre, each uint8 (N, 3, S, S), and the whole square resized to S if `whole`."""
    size, end = preset.size, square.shape[-1] - preset.size
    for left, top in ((0, 0), (end, 0), (0, end), (end, end), (centre_offset(square.shape[-1], size),) * 2):
        yield _crop(square, left, top, size)
    if whole:
        yield _resize(square, size, size, preset)


def _crop(images: Tensor, left: int, top: int, side: int) -> Tensor:
    return images[..., top : top + side, left : left + side]


def _resize(images: Tensor, height: int, width: int, preset: Preset) -> Tensor:
    """Return images resized to uint8 (N, 3, height, width)."""
    resized = images.float()
    # Pillow resizes horizontally, then vertically, and rounds to whole values of 0 to 255 in between.
    for size in ((images.shape[ROWS], width), (height, width)) if preset.antialias else ((height, width),):
        resized = interpolate(resized, size, mode=preset.filter, antialias=preset.antialias).round_().clamp_(0, 255)
    return resized.to(torch.uint8)


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
