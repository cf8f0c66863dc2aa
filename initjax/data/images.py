"""Decoding, cropping and resizing of images."""

import io
import math
from collections.abc import Callable

import numpy as np
import PIL.Image

# (image, size) -> image of size x size pixels.
Crop = Callable[[PIL.Image.Image, int], PIL.Image.Image]

MAX_SIZE = 2048  # pixels; a slip such as 32000 would fill the memory before anything was told
PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
# Of what Pillow reads the formats without code in them: for PostScript it starts an interpreter.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


def resize(image: PIL.Image.Image, size: int, share: float = 1.0) -> PIL.Image.Image:
    """Scales the shorter side to `size / share`, antialiased, and crops the centre square."""
    side = min(image.size) * share
    left, top = (image.width - side) / 2, (image.height - side) / 2
    # As if the whole were resized and then cropped, without the work on what is cut off.
    box = (left, top, left + side, top + side)
    return image.resize((size, size), PIL.Image.Resampling.BILINEAR, box=box)


def random_resized_crop(
    image: PIL.Image.Image, size: int, rng: np.random.Generator
) -> PIL.Image.Image:
    """Crops a random rectangle, resizes it to a square, antialiased, and mirrors every other one.

    Of Szegedy et al. 2015 (arXiv:1409.4842), section 6, as torchvision has it: the rectangle has a
    share of the image's area that is uniform in [.08, 1], and the logarithm of its ratio of width
    to height is uniform in [log 3/4, log 4/3]. Where ten such do not fit, it is the largest in the
    centre whose ratio is in that range.
    """
    for _ in range(10):
        area = image.width * image.height * rng.uniform(0.08, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= image.width and 0 < height <= image.height:
            left = int(rng.integers(image.width - width, endpoint=True))
            top = int(rng.integers(image.height - height, endpoint=True))
            break
    else:
        width = min(image.width, round(image.height * 4 / 3))
        height = min(image.height, round(image.width * 4 / 3))
        left, top = (image.width - width) // 2, (image.height - height) // 2
    image = image.crop((left, top, left + width, top + height))
    image = image.resize((size, size), PIL.Image.Resampling.BILINEAR)
    flipped = PIL.Image.Transpose.FLIP_LEFT_RIGHT
    return image.transpose(flipped) if rng.random() < 0.5 else image


def decode_image(
    encoded: bytes, num_channels: int, image_size: int | None, crop: Crop = resize
) -> np.ndarray:
    """The pixels of a PNG or JPEG file, uint8 [H, W, num_channels]; of 16 bits v // 257.

    `crop` makes it an image of `image_size`, if there is one.

    Raises:
      ValueError: it holds no image, or one that no memory should be given to, in one line.
    """
    try:
        with PIL.Image.open(io.BytesIO(encoded), formats=FORMATS) as file:
            image = _of_bytes(file, encoded)
            if num_channels == 1 and _has_colours(image):
                raise ValueError("it has colours, and the set is of gray images")
            image = image.convert(PIL_MODES[num_channels])
    except PIL.UnidentifiedImageError:
        raise ValueError(f"none of the formats {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow raises any of a dozen for a damaged file.
        raise ValueError(f"{error or type(error).__name__}") from None
    if image_size is not None:
        image = crop(image, image_size)
    return np.asarray(image).reshape(image.height, image.width, num_channels)


def _has_colours(image: PIL.Image.Image) -> bool:
    if image.mode in ("1", "L", "LA"):
        return False
    pixels = np.asarray(image.convert("RGB"))
    return bool((pixels != pixels[..., :1]).any())


def _of_bytes(file: PIL.Image.Image, encoded: bytes) -> PIL.Image.Image:
    """The image of a file in eight bits a channel, where Pillow would clip or truncate sixteen."""
    if file.mode[0] == "F":
        raise ValueError("its pixels are floats, not bytes")
    if file.mode[0] == "I":  # gray
        values = np.asarray(file)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError(f"its pixels reach from {values.min()} to {values.max()}")
        return PIL.Image.fromarray((values // 257).astype(np.uint8))
    tile = file.tile[0] if getattr(file, "tile", None) else None
    if tile is None or tile.args not in ("RGB;16B", "RGBA;16B"):
        return file
    # Pillow takes the first byte of the two, and of the other byte order the second.
    high = np.asarray(file)
    with PIL.Image.open(io.BytesIO(encoded), formats=FORMATS) as again:
        again.tile = [tile._replace(args=tile.args.replace("16B", "16L"))]
        low = np.asarray(again)
    return PIL.Image.fromarray(high - (low < high))  # (256 high + low) // 257
