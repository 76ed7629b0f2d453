"""RGB → views: the publishers' presets, and the squares of a picture that the network sees.

One alphabet: N images, V views, S the side of a view. All is uint8 here; mean and std are the network's business.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from inception_cli.errors import UsageError
from inception_cli.images.frame import frame_of

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
CROPS = (1, 10, 12, 144)  # views of a picture, mirror images among them
MIRRORED = (12, 144)  # those whose mirror images are made on the device
LARGEST_RESIZED = 64_000_000  # pixels; where a whole resize would hold more, a view is made from its own window alone
DECODES = ("fast", "exact", "gpu")
CV2_ONE = 2048  # cv2's weights are integers of 11 bits


@dataclass(frozen=True)
class Preset:
    """How a publisher prepares a picture: short side to `resize`, the centre `size`², mean and std of RGB on [0, 1]."""

    name: str
    size: int
    resize: int
    filter: str
    antialias: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    exif: bool

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise ValueError(f"preset {self.name}: need 0 < size <= resize, not {self.size} and {self.resize}")
        if self.filter not in FILTERS:
            raise ValueError(f"preset {self.name}: filter is one of {', '.join(FILTERS)}, not {self.filter!r}")
        if not self.antialias and self.filter != "bilinear":
            raise ValueError(f"preset {self.name}: only bilinear comes without antialias")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"preset {self.name}: mean and std are three numbers each, std above zero")


HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PRESETS = {
    preset.name: preset
    for preset in (
        # torchvision's transform normalises by ImageNet's mean and std, which its network (transform_input=True) turns
        # into (x - 0.5) / 0.5. Ours has no transform_input: the preset says what the convolutions see.
        Preset("torchvision", 299, 342, "bilinear", antialias=True, mean=HALF, std=HALF, exif=False),
        # mmpretrain reads by cv2, which turns by EXIF and resizes without antialias, and has no transform_input.
        Preset("mmpretrain", 299, 342, "bilinear", antialias=False, mean=IMAGENET_MEAN, std=IMAGENET_STD, exif=True),
        Preset("timm", 299, 341, "bicubic", antialias=True, mean=HALF, std=HALF, exif=False),
        Preset("timm-gluon", 299, 341, "bicubic", antialias=True, mean=IMAGENET_MEAN, std=IMAGENET_STD, exif=False),
    )
}


@dataclass(frozen=True)
class Pixels:
    """How files become views: what decode and preprocess need to know of a run."""

    preset: Preset
    crops: int = 1
    decode: str = "exact"
    exif: bool = True
    max_pixels: int = 500_000_000

    def __post_init__(self) -> None:
        if self.crops not in CROPS:
            raise UsageError(f"--crops {self.crops}: choose from {', '.join(map(str, CROPS))}")
        if self.decode not in DECODES:
            raise UsageError(f"--decode {self.decode}: choose from {', '.join(DECODES)}")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is at least 1, not {self.max_pixels}")

    @property
    def fast(self) -> bool:
        """Whether what the network does not see is left undecoded, unresized.

        Never without antialias: such a resize reads a few pixels of many, and of a smaller picture others.
        """
        return self.decode == "fast" and self.preset.antialias


def short_sides(pixels: Pixels) -> list[int]:
    """The short sides that a picture is resized to.

    The paper does not give those of 144 crops for a side of 299: these are GoogLeNet's four for 224, in proportion.
    """
    preset = pixels.preset
    if pixels.crops == 144:
        return [round(preset.size * short / 224) for short in (256, 288, 320, 352)]
    return [preset.resize]


def shipped(crops: int) -> int:
    """How many views a picture is cut into here: of a mirrored pair one where the mirrors are made on the device."""
    return crops // 2 if crops in MIRRORED else crops


def views(image: Image.Image, pixels: Pixels) -> NDArray[np.uint8]:
    """The views of an RGB picture: uint8 (V, S, S, 3), or of 12 and 144 without their mirror images (V / 2, S, S, 3).

    1: the centre. 10: torchvision's TenCrop (AlexNet's) of the centre square of the preset's resize; its mirrored
    centre is one pixel beside the mirror image of its centre, so all ten come. 12: corners and centre of that square
    and the square whole, mirrored. 144 (GoogLeNet, arXiv:1409.4842): four short sides, at each the left,
    centre and right (or top, centre and bottom) square, of each these six views.
    """
    preset, size = pixels.preset, pixels.preset.size
    if pixels.crops == 1:
        frame = frame_of(image)
        resized = resized_size(frame.width, frame.height, preset.resize)
        cut = _cutter(image, resized, preset, window=pixels.fast)
        return np.stack([cut(middle(resized[0], size), middle(resized[1], size), size)])
    if pixels.crops == 144:
        squares = [square for short in short_sides(pixels) for square in _squares(image, short, preset)]
    else:
        squares = [_squares(image, preset.resize, preset)[1]]
    if pixels.crops == 10:
        squares.append(ImageOps.mirror(squares[0]))
    return np.stack([view for square in squares for view in _views_of_square(square, preset, pixels.crops > 10)])


def _squares(image: Image.Image, short: int, preset: Preset) -> list[Image.Image]:
    """First, middle and last square along the long side of the picture, resized to a short side of `short`."""
    frame = frame_of(image)
    width, height = resized_size(frame.width, frame.height, short)
    cut = _cutter(image, (width, height), preset)
    corners = [(round(share * (width - short) / 2), round(share * (height - short) / 2)) for share in (0, 1, 2)]
    return [Image.fromarray(cut(left, top, short)) for left, top in corners]


def _views_of_square(square: Image.Image, preset: Preset, whole: bool) -> Iterator[NDArray[np.uint8]]:
    """Four corners and the centre, each uint8 (S, S, 3), and the square itself, resized."""
    size, end = preset.size, square.width - preset.size
    for left, top in ((0, 0), (end, 0), (0, end), (end, end), (middle(square.width, size),) * 2):
        yield _crop(square, left, top, size)
    if whole:
        yield _cutter(square, (size, size), preset)(0, 0, size)


def middle(side: int, size: int) -> int:
    """Where a centre crop starts, rounded half to even as the three publishers do."""
    return round((side - size) / 2)


def resized_size(width: int, height: int, short: int) -> tuple[int, int]:
    """(width, height) with the short side made `short`, the long side rounded down as torchvision, timm and mmcv do."""
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _cutter(
    image: Image.Image, size: tuple[int, int], preset: Preset, window: bool = False
) -> Callable[[int, int, int], NDArray[np.uint8]]:
    """A function (left, top, side) → that square of the picture resized to `size`: uint8 (side, side, 3).

    `window`: nothing around the square is resized. Its levels are then within one of the whole picture's, or two.
    """
    if not preset.antialias:
        return partial(_resize_as_cv2, image, size)
    width, height = size
    most = width * max(height, image.height)  # to be held: it is resized across first, then down
    if window or most > LARGEST_RESIZED:
        return partial(_resize_window, image, size, preset)
    return partial(_crop, image.resize(size, FILTERS[preset.filter], box=frame_of(image).box))


def _crop(resized: Image.Image, left: int, top: int, side: int) -> NDArray[np.uint8]:
    """A square of the resized picture: uint8 (side, side, 3)."""
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def _resize_window(
    image: Image.Image, size: tuple[int, int], preset: Preset, left: int, top: int, side: int
) -> NDArray[np.uint8]:
    """The same square resized from its own window of the picture."""
    first, upper, last, lower = frame_of(image).box
    across, down = (last - first) / size[0], (lower - upper) / size[1]
    right, bottom = first + (left + side) * across, upper + (top + side) * down
    box = (first + left * across, upper + top * down, min(right, image.width), min(bottom, image.height))
    return np.asarray(image.resize((side, side), FILTERS[preset.filter], box=box))


def _resize_as_cv2(image: Image.Image, size: tuple[int, int], left: int, top: int, side: int) -> NDArray[np.uint8]:
    """The same square as cv2.resize with INTER_LINEAR makes it, level for level.

    cv2 weighs two columns, then two rows, in integers: 11 bits a weight, 4 dropped between, 16 and 2 after
    (VResizeLinear in OpenCV's modules/imgproc/src/resize.cpp). Only the crop's own window of the picture is read.
    """
    columns, across = _taps(image.width, size[0], left, side)
    rows, down = _taps(image.height, size[1], top, side)
    corner = columns[0, 0], rows[0, 0]
    window = np.asarray(image.crop((*corner, columns[1, -1] + 1, rows[1, -1] + 1)))
    near, far = np.take(window, rows - corner[1], axis=0)  # uint8 (S, width of the window, 3), twice
    near, far = (_blend(line, columns - corner[0], across) >> 4 for line in (near, far))
    blended = (near * down[0, :, None, None] >> 16) + (far * down[1, :, None, None] >> 16)
    return ((blended + 2) >> 2).astype(np.uint8)


def _blend(lines: NDArray[np.uint8], columns: NDArray[np.int64], weights: NDArray[np.int32]) -> NDArray[np.int32]:
    """Lines (S, width, 3) resized across by their taps (2, S): int32 (S, S, 3)."""
    blended: NDArray[np.int32] = np.take(lines, columns[0], axis=1) * weights[0, :, None]
    blended += np.take(lines, columns[1], axis=1) * weights[1, :, None]
    return blended


def _taps(source: int, target: int, first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """For `count` pixels of a resized line: its two pixels of the source and their weights, (2, count)."""
    scale = 1 / (target / source)  # cv2 inverts the inverse, and goes on in 32 bits
    position = ((np.arange(first, first + count) + 0.5) * scale - 0.5).astype(np.float32)
    near = np.floor(position)
    fraction = position - near
    weights = np.rint(np.stack([1 - fraction, fraction]) * np.float32(CV2_ONE)).astype(np.int32)
    return np.stack([near, near + 1]).astype(np.int64).clip(0, source - 1), weights
