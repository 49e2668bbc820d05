"""Strips of text and colour that go under a picture."""

import io
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

MARGIN = 12
INK: Colour = (235, 238, 242)
DIM: Colour = (150, 158, 168)
PAPER: Colour = (14, 17, 22)


@dataclass(frozen=True)
class Label:
    """How one label value is drawn and named in the legend."""

    value: int
    name: str
    colour: Colour


def legend(width: int, labels: tuple[Label, ...]) -> Image.Image:
    """Swatches and names, wrapped to `width`; a plain remark when nothing is marked."""
    font, line = load_font(17), 30
    strip = Image.new("RGB", (width, line * max(1, len(labels)) + MARGIN), PAPER)
    draw = ImageDraw.Draw(strip)
    x, y = MARGIN, MARGIN
    for label in labels:
        needed = 24 + round(draw.textlength(label.name, font=font)) + 2 * MARGIN
        if x > MARGIN and x + needed > width:
            x, y = MARGIN, y + line
        draw.rounded_rectangle((x, y, x + 16, y + 16), radius=3, fill=label.colour)
        draw.text((x + 24, y + 8), label.name, fill=INK, font=font, anchor="lm")
        x += needed
    if not labels:
        draw.text((MARGIN, y + 8), "Nothing marked", fill=DIM, font=font, anchor="lm")
    return strip.crop((0, 0, width, y + line))


def caption(width: int, text: str) -> Image.Image:
    """Running text, wrapped to `width`."""
    font, line = load_font(17), 26
    rows = [""]
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and measure.textlength(longer, font=font) > width - 2 * MARGIN:
            rows.append(word)
        else:
            rows[-1] = longer
    strip = Image.new("RGB", (width, line * len(rows) + MARGIN), PAPER)
    draw = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        draw.text((MARGIN, line * number + line / 2), row, fill=DIM, font=font, anchor="lm")
    return strip


def stacked(parts: list[Image.Image]) -> Image.Image:
    """The parts one below the other, as wide as the first."""
    page = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), PAPER)
    top = 0
    for part in parts:
        page.paste(part, (0, top))
        top += part.height
    return page


def load_font(size: int) -> Font:
    """Pillow's own typeface, so that every machine draws the same picture."""
    return ImageFont.load_default(size)


def png(image: Image.Image) -> bytes:
    """The PNG file; packed lightly, since a study's reader waits for it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
