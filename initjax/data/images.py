"""Decoding and resizing of images."""

import io

import numpy as np
import PIL.Image

MAX_SIZE = 2048  # pixels; a slip such as 32000 would fill the memory before anything was told
PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
# Of what Pillow reads the formats without code in them: for PostScript it starts an interpreter.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


def decode_image(encoded: bytes, num_channels: int, image_size: int | None) -> np.ndarray:
    """The pixels of a PNG or JPEG file, uint8 [H, W, num_channels]; of 16 bits v // 257.

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
        image = resize(image, image_size)
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


def resize(image: PIL.Image.Image, size: int) -> PIL.Image.Image:
    """Scales the shorter side to `size`, antialiased, and crops the centre square."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    # As if the whole were resized and then cropped, without the work on what is cut off.
    box = (left, top, left + side, top + side)
    return image.resize((size, size), PIL.Image.Resampling.BILINEAR, box=box)
