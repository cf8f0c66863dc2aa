"""Decoding and resizing of images."""

import io

import numpy as np
import PIL.Image

MAX_SIZE = 2048  # pixels; a slip such as 32000 would fill the memory before anything was told
PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels


def decode_image(encoded: bytes, num_channels: int, image_size: int | None) -> np.ndarray:
    """The pixels of a PNG or JPEG file, uint8 [H, W, num_channels]."""
    with PIL.Image.open(io.BytesIO(encoded)) as file:
        image = file.convert(PIL_MODES[num_channels])
    if image_size is not None:
        image = resize(image, image_size)
    return np.asarray(image).reshape(image.height, image.width, num_channels)


def resize(image: PIL.Image.Image, size: int) -> PIL.Image.Image:
    """Scales the shorter side to `size`, antialiased, and crops the centre square."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    # As if the whole were resized and then cropped, without the work on what is cut off.
    box = (left, top, left + side, top + side)
    return image.resize((size, size), PIL.Image.Resampling.BILINEAR, box=box)
