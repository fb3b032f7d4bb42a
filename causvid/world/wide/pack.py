"""`python -m causvid.world.wide.pack FONT`: draw the sprites of the catalogue into one file.

FONT is Noto Color Emoji with bitmaps, `NotoColorEmoji.ttf` of Debian's `fonts-noto-color-emoji`
(SIL Open Font License 1.1).
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from causvid.world.wide.catalogue import SPRITES
from causvid.world.wide.sprites import CELL, COLUMNS, SHEET

_BITMAP = 109
"""The only size in which the font has pictures; each fits into 136×128 pixels."""


def pack(font: Path, target: Path = SHEET) -> None:
    """Draw every sprite, cropped, centred and as large as its cell allows, into one WebP file.

    Raises:
        ValueError: if the font lacks one of the pictures.
    """
    face = ImageFont.truetype(str(font), _BITMAP)
    rows = -(-len(SPRITES) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for index, kind in enumerate(SPRITES):
        glyph = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(glyph).text((8, 8), kind.emoji, font=face, embedded_color=True)
        box = glyph.getbbox()
        if box is None:
            raise ValueError(f"{font} has no picture of {kind.name} ({kind.emoji})")
        glyph = glyph.crop(box)
        scale = (CELL - 2) / max(glyph.size)
        size = (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale)))
        glyph = glyph.resize(size, Image.Resampling.LANCZOS)
        row, place = divmod(index, COLUMNS)
        left = place * CELL + (CELL - glyph.width) // 2
        sheet.paste(glyph, (left, row * CELL + (CELL - glyph.height) // 2))
    sheet.save(target, "WEBP", quality=82, alpha_quality=90, method=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("font", type=Path, help="NotoColorEmoji.ttf")
    pack(parser.parse_args().font)
