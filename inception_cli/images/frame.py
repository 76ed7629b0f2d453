"""Where a photo lies in the picture decoded of it, which may be a half, a quarter or an eighth of it each way."""

from dataclasses import dataclass

from PIL import Image
from PIL.Image import Transpose

FLIP_COLUMNS = (Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.ROTATE_90, Transpose.TRANSVERSE)
FLIP_ROWS = (Transpose.FLIP_TOP_BOTTOM, Transpose.ROTATE_180, Transpose.ROTATE_270, Transpose.TRANSVERSE)
SWAP = (Transpose.TRANSPOSE, Transpose.ROTATE_90, Transpose.ROTATE_270, Transpose.TRANSVERSE)
KEY = "frame"  # in Image.info


@dataclass(frozen=True)
class Frame:
    """A photo of width × height, and the `box` (left, top, right, bottom) that it fills of its picture.

    libjpeg rounds up: 4001 pixels at a quarter are 1000.25, in a picture of 1001. So the resized photo has the
    publisher's size, and its squares lie where the publisher's do.
    """

    width: int
    height: int
    box: tuple[float, float, float, float]

    def turned(self, turn: Transpose, size: tuple[int, int]) -> "Frame":
        """The same after the picture, whose (width, height) was `size`, is turned."""
        left, top, right, bottom = self.box
        if turn in FLIP_COLUMNS:
            left, right = size[0] - right, size[0] - left
        if turn in FLIP_ROWS:
            top, bottom = size[1] - bottom, size[1] - top
        if turn in SWAP:
            return Frame(self.height, self.width, (top, left, bottom, right))
        return Frame(self.width, self.height, (left, top, right, bottom))


def frame_of(image: Image.Image) -> Frame:
    """The photo in a picture: all of it, unless it was decoded at a fraction."""
    frame = image.info.get(KEY)  # a file may have told something under that name
    return frame if isinstance(frame, Frame) else Frame(*image.size, (0, 0, *image.size))
