"""The original size of an image that was decoded at a reduced scale: a half, a quarter or an eighth each way."""

from dataclasses import dataclass

from PIL import Image
from PIL.Image import Transpose

FLIPS_COLUMNS = (Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.ROTATE_90, Transpose.TRANSVERSE)
FLIPS_ROWS = (Transpose.FLIP_TOP_BOTTOM, Transpose.ROTATE_180, Transpose.ROTATE_270, Transpose.TRANSVERSE)
SWAPS_AXES = (Transpose.TRANSPOSE, Transpose.ROTATE_90, Transpose.ROTATE_270, Transpose.TRANSVERSE)
INFO_KEY = "scale_info"  # in Image.info


@dataclass(frozen=True)
class ScaleInfo:
    """The original width and height, and the `box` (left, top, right, bottom) of the decoded image that it fills.

    libjpeg rounds up: 4001 pixels at a quarter are 1000.25, in an image of 1001. With the box the resized image has the
    publisher's size, and its crops are where the publisher's are.
    """

    width: int
    height: int
    box: tuple[float, float, float, float]

    def transposed(self, operation: Transpose, size: tuple[int, int]) -> "ScaleInfo":
        """Return the same after the decoded image, whose (width, height) was `size`, is transposed."""
        left, top, right, bottom = self.box
        if operation in FLIPS_COLUMNS:
            left, right = size[0] - right, size[0] - left
        if operation in FLIPS_ROWS:
            top, bottom = size[1] - bottom, size[1] - top
        if operation in SWAPS_AXES:
            return ScaleInfo(self.height, self.width, (top, left, bottom, right))
        return ScaleInfo(self.width, self.height, (left, top, right, bottom))


def scale_info(image: Image.Image) -> ScaleInfo:
    """Return the original size of an image; its own size, filled wholly, unless it was decoded at a reduced scale."""
    scale = image.info.get(INFO_KEY)  # the metadata of a file may hold something else under this name
    return scale if isinstance(scale, ScaleInfo) else ScaleInfo(*image.size, (0, 0, *image.size))
