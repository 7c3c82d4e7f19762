"""Makes a set of smaller pictures from one; the picture may come from anyone.

Four formats only, opened as such whatever the name says; the size is checked before anything is decoded; what is
written is drawn anew, so that nothing but the pixels of the source gets into it.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from scheduler import log, progress, task
from tasks.commons import (
    BadArgument,
    SourceFault,
    folder_below_data,
    open_source,
    raise_when_stopped,
    shown,
    whole_number,
    write_whole,
)

MAX_PIXELS = 50_000_000  # 200 MB when decoded with transparency; the biggest of today's cameras stay below
LARGEST = 4096  # pixels; the longest edge that may be asked for
MAX_PICTURES = 200
READ_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
ENDINGS = {"png": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif"}


class PictureRefused(SourceFault):
    """The file is no picture that is read here."""


@task(kind="long")
def create_image_set(
    source: str,
    sizes: Sequence[int] = (32, 64, 128, 256),
    formats: Sequence[str] = ("png",),
    into: str | None = None,
    pause: float = 0,
    enlarge: bool = False,
) -> dict[str, Any]:
    """The picture `source` in each of `sizes` and `formats`, as files below the data folder.

    A size is the longest edge in pixels, 1 to 4096; the shape is kept. A picture is never enlarged unless `enlarge`
    is true: asked for more than it has, it is given at its own size under the name of the size asked for.
    `formats` are png, jpeg, webp and gif; jpeg gets a white background. `pause` is seconds to wait between pictures,
    0 to 3600, so that people can watch the progress.

    The camera's orientation is applied; all else that is no pixel (place, names, colour profile) is dropped. Of an
    animation the first frame counts. Files go to images/<name>-<hash of the content>/, or to `into` below the data
    folder, and replace those of an earlier run. Returns {source, images: [{file, width, height, bytes, format}], into}.

    Raises BadArgument, PictureRefused or SourceFault with the way to mend it. When asked to stop it raises Stopped;
    the pictures finished by then stay, each whole.
    """
    sizes = _checked_sizes(sizes)
    formats = _checked_formats(formats)
    if isinstance(pause, bool) or not isinstance(pause, int | float) or not 0 <= pause <= 3600:
        raise BadArgument(f"pause is {shown(pause)}; give seconds from 0 to 3600")
    total = len(sizes) * len(formats)
    if total > MAX_PICTURES:
        raise BadArgument(
            f"{len(sizes)} sizes in {len(formats)} formats make {total} pictures; ask for {MAX_PICTURES} at most"
        )
    if not isinstance(source, str) or re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE):
        raise BadArgument(f"source is {shown(source)}; give the path of a file, addresses are not fetched")
    with open_source(source) as file:
        content = file.read()
    picture = _decode(content, source)
    stem = _stem(source)
    folder = folder_below_data(into or f"images/{stem}-{hashlib.sha256(content).hexdigest()[:12]}")
    images: list[dict[str, Any]] = []
    progress(0, total, f"{picture.width} x {picture.height} pixels read")
    for size in sizes:
        smaller = _resized(picture, size, enlarge)
        for format_ in formats:
            raise_when_stopped(f"after {len(images)} of {total} pictures, which stay in {folder}")
            path = folder / f"{stem}-{size}.{ENDINGS[format_]}"
            encoded = _encode(smaller, format_)
            write_whole(path, encoded)
            images.append(
                {
                    "file": str(path),
                    "width": smaller.width,
                    "height": smaller.height,
                    "bytes": len(encoded),
                    "format": format_,
                }
            )
            progress(len(images), total, f"{path.name}: {smaller.width} x {smaller.height} pixels")
            if len(images) < total:
                _wait(pause, len(images), total, folder)
    log.info(
        "%d pictures of %s written to %s",
        total,
        shown(source),
        folder,
        extra={"event": "image_set_created", "pictures": total},
    )
    return {
        "source": source.encode("utf-8", "replace").decode("utf-8"),
        "images": images,
        "into": str(folder),
    }


def _checked_sizes(sizes: Sequence[int]) -> list[int]:
    given = [sizes] if isinstance(sizes, int) else sizes
    if isinstance(given, str | bytes) or not isinstance(given, Sequence) or not given:
        raise BadArgument(f"sizes is {shown(sizes)}; give a list of pixels such as [32, 64, 128]")
    return list(dict.fromkeys(whole_number("a size", size, 1, LARGEST) for size in given))


def _checked_formats(formats: Sequence[str]) -> list[str]:
    given = [formats] if isinstance(formats, str) else formats
    if not isinstance(given, Sequence) or not given:
        raise BadArgument(f"formats is {shown(formats)}; give a list such as [png, jpeg]")
    checked = []
    for name in given:
        known = str(name).lower().replace("jpg", "jpeg")
        if known not in ENDINGS:
            near = get_close_matches(known, ENDINGS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(ENDINGS)}"
            raise BadArgument(f"there is no format {shown(name)}; {hint}")
        checked.append(known)
    return list(dict.fromkeys(checked))


def _decode(content: bytes, source: str) -> Image.Image:
    """The first frame, upright, as RGB or RGBA, with nothing of the file left but its pixels."""
    try:
        with Image.open(io.BytesIO(content), formats=READ_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise PictureRefused(
                    f"{shown(source)} has {picture.width:,} x {picture.height:,} pixels, more than the "
                    f"{MAX_PIXELS:,} allowed; give a smaller picture"
                )
            picture.load()
            upright = _upright(picture)
            plain = _plain(upright)
    except PictureRefused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureRefused(
            f"{shown(source)} has more pixels than the {MAX_PIXELS:,} allowed; give a smaller picture"
        ) from error
    except Exception as error:  # decoders raise nearly anything on broken files, from struct.error to SyntaxError
        what = "is empty" if not content else "is no picture that can be read, or a damaged one"
        raise PictureRefused(f"{shown(source)} {what}; give a PNG, JPEG, WebP or GIF file") from error
    plain.info = {}  # Pillow would write profile, comment and resolution from here into the new files
    return plain


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # broken metadata is no reason to refuse good pixels
        return picture


def _plain(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):  # a plain `convert` would cut off all but the darkest 256 of 65,536 greys
        picture = picture.convert("I").point(lambda grey: grey * (1 / 257)).convert("L")
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _resized(picture: Image.Image, size: int, enlarge: bool) -> Image.Image:
    longest = max(picture.size)
    edge = size if enlarge else min(size, longest)
    if edge == longest:
        return picture
    width, height = (max(1, round(side * edge / longest)) for side in picture.size)
    # The gap lets Pillow shrink by whole numbers first: some times faster for big pictures, no difference to the eye.
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _encode(picture: Image.Image, format_: str) -> bytes:
    buffer = io.BytesIO()
    if format_ == "jpeg":
        if picture.mode == "RGBA":
            ground = Image.new("RGB", picture.size, "white")
            ground.paste(picture, mask=picture.getchannel("A"))
            picture = ground
        picture.save(buffer, "JPEG", quality=85, optimize=True, progressive=True)
    elif format_ == "webp":
        picture.save(buffer, "WEBP", quality=85)
    elif format_ == "gif" and picture.mode == "RGB":
        # Pillow's usual way to 256 colours loses small spots of a colour of their own; this one keeps them.
        palette = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE)
        picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "GIF")
    else:
        picture.save(buffer, format_.upper())
    return buffer.getvalue()


def _stem(source: str) -> str:
    """The source's name as part of a file name of ours: plain letters, digits and -, 40 at most."""
    plain = unicodedata.normalize("NFKD", Path(source).stem).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "picture"


def _wait(pause: float, done: int, total: int, folder: Path) -> None:
    end = time.monotonic() + pause
    while (left := end - time.monotonic()) > 0:
        raise_when_stopped(f"after {done} of {total} pictures, which stay in {folder}")
        time.sleep(min(left, 0.2))  # in slices, so that a stop is heard at once
