"""RGB tensors → views, as preprocess makes them of Pillow's pictures: on whatever device the tensors are."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from inception_cli.images.preprocess import Pixels, Preset, middle, resized_size, short_sides

ROWS, COLUMNS = -2, -1
FLIPS: dict[int, tuple[int, ...]] = {
    2: (COLUMNS,),
    3: (ROWS, COLUMNS),
    4: (ROWS,),
    6: (ROWS,),
    7: (ROWS, COLUMNS),
    8: (COLUMNS,),
}
SWAPPED = (5, 6, 7, 8)


def turned(pictures: Tensor, orientation: int) -> Tensor:
    """Pictures (N, 3, H, W) set upright, as an EXIF orientation of 1 to 8 says."""
    flipped = pictures.flip(FLIPS[orientation]) if orientation in FLIPS else pictures
    return flipped.transpose(ROWS, COLUMNS) if orientation in SWAPPED else flipped


def views(pictures: Tensor, pixels: Pixels) -> Tensor:
    """The views of N pictures alike in size, (N, 3, H, W) uint8, as preprocess.views says: uint8 (N, V, S, S, 3).

    Levels differ by one or two: Pillow's weights are of 22 bits, cv2's of 11.
    """
    preset, crops = pixels.preset, pixels.crops
    height, width = pictures.shape[-2:]
    found = []
    for short in short_sides(pixels):
        across, down = resized_size(width, height, short)
        resized = _resized(pictures, down, across, preset)
        if crops == 1:
            found.append(_crop(resized, middle(across, preset.size), middle(down, preset.size), preset.size))
            continue
        shares = (0, 1, 2) if crops == 144 else (1,)
        for share in shares:
            square = _crop(resized, round(share * (across - short) / 2), round(share * (down - short) / 2), short)
            found += _views_of_square(square, preset, whole=crops > 10)
            if crops == 10:
                found += _views_of_square(square.flip(COLUMNS), preset, whole=False)
    return torch.stack(found, 1).permute(0, 1, 3, 4, 2)


def _views_of_square(square: Tensor, preset: Preset, whole: bool) -> Iterator[Tensor]:
    """Four corners and the centre, each uint8 (N, 3, S, S), and the square itself, resized."""
    size, end = preset.size, square.shape[-1] - preset.size
    for left, top in ((0, 0), (end, 0), (0, end), (end, end), (middle(square.shape[-1], size),) * 2):
        yield _crop(square, left, top, size)
    if whole:
        yield _resized(square, size, size, preset)


def _crop(pictures: Tensor, left: int, top: int, side: int) -> Tensor:
    return pictures[..., top : top + side, left : left + side]


def _resized(pictures: Tensor, height: int, width: int, preset: Preset) -> Tensor:
    """Pictures (N, 3, height, width) uint8."""
    resized = pictures.float()
    # Pillow resizes across, then down, and has whole levels from 0 to 255 between.
    for size in ((pictures.shape[ROWS], width), (height, width)) if preset.antialias else ((height, width),):
        resized = interpolate(resized, size, mode=preset.filter, antialias=preset.antialias).round_().clamp_(0, 255)
    return resized.to(torch.uint8)
