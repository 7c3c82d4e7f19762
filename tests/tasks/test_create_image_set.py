from __future__ import annotations

import importlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import GifImagePlugin, Image, PngImagePlugin

from tasks import create_image_set
from tasks.commons import BadArgument, SourceFault, Stopped, TaskFault
from tests.tasks.conftest import Watched

module = importlib.import_module("tasks.create_image_set")  # `tasks.create_image_set` is the function
SAMPLE = Path(__file__).resolve().parents[2] / "config" / "samples" / "lighthouse.jpg"
RED, BLUE = (250, 10, 10), (10, 10, 250)


def a_picture(width: int = 120, height: int = 80, mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(BLUE, (width // 2, 0, width, height))
    return picture.convert(mode)


def saved(path: Path, picture: Image.Image | None = None, **how: object) -> str:
    (picture or a_picture()).save(path, **how)
    return path.name


def opened(image: dict) -> Image.Image:
    with Image.open(image["file"]) as picture:
        picture.load()
        return picture


def near(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 30 for a, b in zip(left[:3], right[:3], strict=True))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


# What it makes


def test_a_picture_is_made_in_each_size_and_format(folder: Path):
    source = saved(folder / "Müller & Söhne.png")

    result = create_image_set(source, sizes=[30, 60], formats=["png", "jpeg"])

    into = result["into"]
    assert into.startswith("var/images/muller-sohne-")
    assert len(Path(into).name) == len("muller-sohne-") + 12
    assert result == {
        "source": "Müller & Söhne.png",
        "images": [
            {
                "file": f"{into}/muller-sohne-{size}.{ending}",
                "width": size,
                "height": size * 2 // 3,
                "bytes": Path(f"{into}/muller-sohne-{size}.{ending}").stat().st_size,
                "format": format_,
            }
            for size in (30, 60)
            for format_, ending in (("png", "png"), ("jpeg", "jpg"))
        ],
        "into": into,
    }
    for image in result["images"]:
        picture = opened(image)
        assert picture.size == (image["width"], image["height"])
        assert picture.format == image["format"].upper()
        assert near(picture.convert("RGB").getpixel((2, 5)), RED)
        assert near(picture.convert("RGB").getpixel((picture.width - 3, 5)), BLUE)
    assert sorted(map(str, Path(into).iterdir())) == sorted(image["file"] for image in result["images"])


def test_the_sample_stands_upright():
    result = create_image_set(str(SAMPLE))

    with Image.open(SAMPLE) as stored:
        assert (stored.size, stored.getexif()[0x0112]) == ((800, 1200), 6)
    assert [(image["width"], image["height"]) for image in result["images"]] == [
        (32, 21),
        (64, 43),
        (128, 85),
        (256, 171),
    ]
    sky, water = (opened(result["images"][-1]).convert("RGB").getpixel(at) for at in ((128, 2), (250, 168)))
    assert sky[2] > sky[0]
    assert water[2] > water[0]
    tower = opened(result["images"][-1]).convert("RGB").getpixel((39, 73))
    assert tower[0] > tower[2] + 60  # the lighthouse's red is on the left


ORIENTATIONS = {
    "1, as stored": (1, (60, 40), RED, BLUE),
    "2, mirrored": (2, (60, 40), BLUE, RED),
    "3, upside down": (3, (60, 40), BLUE, RED),
    "6, turned right": (6, (40, 60), RED, RED),
    "8, turned left": (8, (40, 60), BLUE, BLUE),
    "99, unknown": (99, (60, 40), RED, BLUE),
}


@pytest.mark.parametrize(("value", "size", "left", "right"), ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_the_orientation_of_the_camera_is_applied(folder: Path, value: int, size: tuple, left: tuple, right: tuple):
    exif = Image.Exif()
    exif[0x0112] = value
    source = saved(folder / "a.jpg", exif=exif)

    result = create_image_set(source, sizes=[60])

    picture = opened(result["images"][0]).convert("RGB")
    assert picture.size == size
    assert near(picture.getpixel((3, 3)), left)
    assert near(picture.getpixel((picture.width - 4, 3)), right)
    assert 0x0112 not in picture.getexif()


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp", "gif"])
def test_nothing_of_the_file_but_its_pixels_is_kept(folder: Path, format_: str):
    exif = Image.Exif()
    exif[0x010F] = "SECRET-camera"
    exif.get_ifd(0x8825)[1] = "SECRET-place"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "SECRET-comment")
    sources = [
        saved(folder / "a.png", pnginfo=text, exif=exif, icc_profile=b"SECRET-profile" * 20, dpi=(300, 300)),
        saved(folder / "a.jpg", comment=b"SECRET", exif=exif, icc_profile=b"SECRET-profile" * 20, dpi=(300, 300)),
        saved(folder / "a.webp", exif=exif, icc_profile=b"SECRET-profile" * 20, xmp=b"SECRET"),
        saved(folder / "a.gif", comment=b"SECRET"),
    ]
    for source in sources:
        with (folder / source).open("ab") as file:
            file.write(b"PK\3\4 SECRET archive behind the picture <script>")

        result = create_image_set(source, sizes=[60, 120], formats=[format_])

        for image in result["images"]:
            content = Path(image["file"]).read_bytes()
            assert b"SECRET" in (folder / source).read_bytes()
            assert b"SECRET" not in content
            assert set(opened(image).info) <= {
                "jfif",
                "jfif_version",
                "jfif_unit",
                "jfif_density",
                "progressive",
                "progression",
                "version",
                "background",
                "loop",
                "duration",
                "timestamp",
            }


SHAPES = {
    "wide": ((400, 100), 40, (40, 10)),
    "tall": ((100, 400), 40, (10, 40)),
    "square": ((100, 100), 40, (40, 40)),
    "a line": ((400, 1), 40, (40, 1)),
    "its own size": ((40, 20), 40, (40, 20)),
    "smaller than asked for": ((40, 20), 400, (40, 20)),
    "one pixel": ((1, 1), 64, (1, 1)),
}


@pytest.mark.parametrize(("given", "size", "expected"), SHAPES.values(), ids=SHAPES)
def test_the_shape_is_kept_and_nothing_is_enlarged(folder: Path, given: tuple, size: int, expected: tuple):
    source = saved(folder / "a.png", a_picture(*given))

    [image] = create_image_set(source, sizes=[size])["images"]

    assert (image["width"], image["height"]) == expected
    assert Path(image["file"]).name == f"a-{size}.png"


def test_it_enlarges_when_asked_to(folder: Path):
    source = saved(folder / "a.png", a_picture(40, 20))

    [image] = create_image_set(source, sizes=[100], enlarge=True)["images"]

    assert opened(image).size == (100, 50)


MODES = {
    "1 bit": ("1", {}),
    "grey": ("L", {}),
    "grey with transparency": ("LA", {}),
    "palette": ("P", {}),
    "transparency": ("RGBA", {}),
    "16 bits of grey": ("I;16", {}),
}


@pytest.mark.parametrize(("mode", "how"), MODES.values(), ids=MODES)
@pytest.mark.parametrize("format_", ["png", "jpeg", "webp", "gif"])
def test_every_kind_of_pixel_is_read(folder: Path, mode: str, how: dict, format_: str):
    grey = Image.new("I", (80, 80), 200 * 257).convert("I;16") if mode == "I;16" else a_picture(mode=mode)
    source = saved(folder / "a.png", grey, **how)

    [image] = create_image_set(source, sizes=[40], formats=[format_])["images"]

    picture = opened(image).convert("RGB")
    assert max(picture.size) == 40
    if mode == "I;16":
        assert near(picture.getpixel((20, 20)), (200, 200, 200))
    elif mode in ("RGBA", "P"):
        assert near(picture.getpixel((5, 5)), RED)


def test_transparency_stays_and_becomes_white_in_jpeg(folder: Path):
    source = saved(folder / "a.png", Image.new("RGBA", (80, 80), (250, 10, 10, 0)))

    images = create_image_set(source, sizes=[40], formats=["png", "webp", "gif", "jpeg"])["images"]

    pixels = [opened(image).convert("RGBA").getpixel((20, 20)) for image in images]
    assert [alpha for *_, alpha in pixels] == [0, 0, 0, 255]
    assert near(pixels[3], (255, 255, 255))


def test_a_picture_for_print_is_read(folder: Path):
    source = saved(folder / "a.jpg", a_picture(mode="CMYK"))

    [image] = create_image_set(source, sizes=[60])["images"]

    assert near(opened(image).getpixel((5, 5)), RED)


def test_of_an_animation_the_first_frame_counts_and_no_other_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    frames = [Image.new("P", (64, 64), n % 250) for n in range(1, 2000)]
    source = saved(folder / "a.gif", a_picture(64, 64), save_all=True, append_images=frames)
    sought: list[int] = []
    monkeypatch.setattr(GifImagePlugin.GifImageFile, "seek", lambda _, frame: sought.append(frame))

    [image] = create_image_set(source, sizes=[32], formats=["gif"])["images"]

    assert sought == []
    with Image.open(image["file"]) as picture:
        assert picture.n_frames == 1
        assert near(picture.convert("RGB").getpixel((4, 4)), RED)


def test_formats_and_sizes_may_be_single_and_doubled(folder: Path):
    source = saved(folder / "a.png")

    first = create_image_set(source, sizes=32, formats="JPG")  # type: ignore[arg-type]
    second = create_image_set(source, sizes=[32, 32], formats=["jpg", "jpeg", "JPEG"])

    assert first == second
    assert [image["format"] for image in first["images"]] == ["jpeg"]


def test_a_second_run_replaces_the_files_of_the_first(folder: Path):
    source = saved(folder / "a.png")

    first = create_image_set(source, sizes=[32])
    Path(first["images"][0]["file"]).write_text("spoilt")
    second = create_image_set(source, sizes=[32])

    assert second == first
    assert opened(second["images"][0]).size == (32, 21)


STEMS = {
    "plain": ("Photo_01.PNG", "photo-01"),
    "hidden": (".png", "png"),
    "no letters": ("日本.png", "picture"),
    "quotes and line end": ('a"\n;b.png', "a-b"),
    "overlong": ("x" * 200 + ".png", "x" * 40),
}


@pytest.mark.parametrize(("name", "stem"), STEMS.values(), ids=STEMS)
def test_names_of_files_are_ours(folder: Path, name: str, stem: str):
    (folder / name).write_bytes(Path(saved(folder / "source.png")).read_bytes())

    [image] = create_image_set(name, sizes=[32])["images"]

    assert Path(image["file"]).name == f"{stem}-32.png"


# Progress, stopping


def test_it_tells_its_progress_picture_by_picture(folder: Path, in_a_run: Callable[..., Watched]):
    watched = in_a_run()

    create_image_set(saved(folder / "a.png"), sizes=[32, 64], formats=["png", "gif"], pause=0.001)

    assert [(told["done"], told["total"], told["message"]) for told in watched.told] == [
        (0, 4, "120 x 80 pixels read"),
        (1, 4, "a-32.png: 32 x 21 pixels"),
        (2, 4, "a-32.gif: 32 x 21 pixels"),
        (3, 4, "a-64.png: 64 x 43 pixels"),
        (4, 4, "a-64.gif: 64 x 43 pixels"),
    ]


@pytest.mark.parametrize("pause", [pytest.param(0, id="without pause"), pytest.param(3600, id="within a pause")])
def test_when_asked_to_stop_it_does_so_and_leaves_whole_pictures_only(
    folder: Path, in_a_run: Callable[..., Watched], pause: float
):
    in_a_run(stop_after=2)  # the first tells what was read, the second the first picture

    with pytest.raises(Stopped) as fault:
        create_image_set(saved(folder / "a.png"), sizes=[32, 64], into="images/a", pause=pause)

    assert str(fault.value) == "stopped on request after 1 of 2 pictures, which stay in var/images/a"
    assert [path.name for path in Path("var/images/a").iterdir()] == ["a-32.png"]


# Where it writes


def test_into_is_a_folder_below_the_data_folder(folder: Path, monkeypatch: pytest.MonkeyPatch):
    source = saved(folder / "a.png")

    assert create_image_set(source, sizes=[32], into="images/x/../posters")["into"] == "var/images/posters"
    monkeypatch.setenv("SCHEDULER_DATA", str(folder / "data"))
    assert create_image_set(source, sizes=[32], into=str(folder / "data" / "y"))["into"] == f"{folder}/data/y"


OUTSIDE = {
    "parent": "../images",
    "deep parent": "images/../../../etc",
    "absolute": "/tmp/images",
    "link made by a task": "way-out/images",
    "the data folder itself": ".",
    "back to the data folder": "images/..",
}


@pytest.mark.parametrize("into", OUTSIDE.values(), ids=OUTSIDE)
def test_into_leads_nowhere_else(folder: Path, into: str):
    (folder / "var").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "var" / "way-out").symlink_to("../elsewhere")
    source = saved(folder / "a.png")

    with pytest.raises(BadArgument) as fault:
        create_image_set(source, into=into)

    assert str(fault.value) == (
        f'into is "{into}", which is not below the data folder "var"; give a folder below it, such as images/posters'
    )
    assert list((folder / "elsewhere").iterdir()) == []


def test_a_name_that_is_taken_by_a_file_is_told(folder: Path):
    (folder / "var").mkdir()
    (folder / "var" / "images").write_text("a file, not a folder")

    with pytest.raises(TaskFault) as fault:
        create_image_set(saved(folder / "a.png"), into="images/x")

    assert str(fault.value) == ('cannot make the folder "var/images/x": Not a directory; free the name or the rights')


def test_a_full_disk_leaves_no_part_of_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(TaskFault) as fault:
        create_image_set(saved(folder / "a.png"), sizes=[32], into="images/a")

    assert str(fault.value) == (
        'cannot write "var/images/a/a-32.png": No space left on device; make room or give the rights'
    )
    assert list(Path("var/images/a").iterdir()) == []


# What it refuses


def of_bytes(name: str, content: bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return name

    return make


def a_link_out(folder: Path) -> str:
    (folder / "link.jpg").symlink_to(SAMPLE)
    return "link.jpg"


def a_tiff(folder: Path) -> str:
    a_picture().save(folder / "a.png", "TIFF")
    return "a.png"


def a_truncated(folder: Path) -> str:
    source = saved(folder / "a.jpg", a_picture(600, 600))
    (folder / source).write_bytes((folder / source).read_bytes()[:3000])
    return source


PIXELS = zlib.compress(b"\0" * (3 * 10 + 1) * 10)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(touch x) system\n%%EOF\n"
NO_PICTURE = "is no picture that can be read, or a damaged one; give a PNG, JPEG, WebP or GIF file"
HOSTILE = {
    "empty file": (of_bytes("a.png", b""), '"a.png" is empty; give a PNG, JPEG, WebP or GIF file'),
    "text": (of_bytes("a.png", b"hello"), f'"a.png" {NO_PICTURE}'),
    "50,000 x 50,000": (
        of_bytes("a.png", png(50_000, 50_000, chunk(b"IDAT", PIXELS))),
        '"a.png" has more pixels than the 50,000,000 allowed; give a smaller picture',
    ),
    "8,000 x 8,000": (
        of_bytes("a.png", png(8_000, 8_000, chunk(b"IDAT", PIXELS))),
        '"a.png" has 8,000 x 8,000 pixels, more than the 50,000,000 allowed; give a smaller picture',
    ),
    "no width": (of_bytes("a.png", png(0, 10, chunk(b"IDAT", PIXELS))), f'"a.png" {NO_PICTURE}'),
    "truncated": (a_truncated, f'"a.jpg" {NO_PICTURE}'),
    "no pixels": (of_bytes("a.png", png(10, 10)), f'"a.png" {NO_PICTURE}'),
    "huge text chunk": (
        of_bytes(
            "a.png",
            png(10, 10, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000), 1)), chunk(b"IDAT", PIXELS)),
        ),
        f'"a.png" {NO_PICTURE}',
    ),
    "huge profile": (
        of_bytes(
            "a.png",
            png(10, 10, chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(100_000_000), 1)), chunk(b"IDAT", PIXELS)),
        ),
        f'"a.png" {NO_PICTURE}',
    ),
    "many text chunks": (
        of_bytes("a.png", png(10, 10, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))] * 80)),
        f'"a.png" {NO_PICTURE}',
    ),
    "TIFF named .png": (a_tiff, f'"a.png" {NO_PICTURE}'),
    "EPS named .png": (of_bytes("a.png", EPS), f'"a.png" {NO_PICTURE}'),
    "SVG": (of_bytes("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), f'"a.svg" {NO_PICTURE}'),
    "FITS bomb": (of_bytes("a.png", b"SIMPLE  =                    T".ljust(2880)), f'"a.png" {NO_PICTURE}'),
    "link out of its folder": (
        a_link_out,
        '"link.jpg" is a symbolic link that leaves its folder; give the file itself, '
        "or name the folder it leads to in SCHEDULER_SOURCE_FOLDERS",
    ),
    "missing": (
        lambda _: "a.png",
        'there is no file "a.png" in the working folder "HERE"; check the path, it is case-sensitive',
    ),
    "address": (
        lambda _: "https://example.org/a.png",
        'source is "https://example.org/a.png"; give the path of a file, addresses are not fetched',
    ),
}


@pytest.mark.parametrize(("make", "message"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_picture_is_refused_and_nothing_is_written(folder: Path, make: Callable[[Path], str], message: str):
    source = make(folder)

    with pytest.raises((SourceFault, BadArgument)) as fault:
        create_image_set(source)

    assert str(fault.value) == message.replace("HERE", str(folder))
    assert not (folder / "var").exists()


def test_pixels_are_decoded_only_after_their_number_was_checked(folder: Path, monkeypatch: pytest.MonkeyPatch):
    decoded: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "MAX_PIXELS", 5000)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: decoded.append(self.size))

    with pytest.raises(module.PictureRefused):
        create_image_set(saved(folder / "a.png"))

    assert decoded == []


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # what Pillow says to it
def test_a_damaged_orientation_is_no_reason_to_refuse_a_picture(folder: Path):
    buffer = io.BytesIO()
    a_picture().save(buffer, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    (folder / "a.jpg").write_bytes(buffer.getvalue())

    [image] = create_image_set("a.jpg", sizes=[32])["images"]

    assert near(opened(image).getpixel((3, 3)), RED)


BAD_ARGUMENTS = {
    "no sizes": ({"sizes": []}, 'sizes is "[]"; give a list of pixels such as [32, 64, 128]'),
    "sizes as text": ({"sizes": "32,64"}, 'sizes is "32,64"; give a list of pixels such as [32, 64, 128]'),
    "size zero": ({"sizes": [0]}, 'a size is "0"; give a whole number from 1 to 4096'),
    "negative size": ({"sizes": [-5]}, 'a size is "-5"; give a whole number from 1 to 4096'),
    "huge size": ({"sizes": [10**9]}, 'a size is "1000000000"; give a whole number from 1 to 4096'),
    "size of a fraction": ({"sizes": [1.5]}, 'a size is "1.5"; give a whole number from 1 to 4096'),
    "size true": ({"sizes": [True]}, 'a size is "True"; give a whole number from 1 to 4096'),
    "too many": (
        {"sizes": list(range(1, 102)), "formats": ["png", "gif"]},
        "101 sizes in 2 formats make 202 pictures; ask for 200 at most",
    ),
    "no formats": ({"formats": []}, 'formats is "[]"; give a list such as [png, jpeg]'),
    "typo": ({"formats": ["pgn"]}, 'there is no format "pgn"; did you mean png?'),
    "other format": ({"formats": ["tiff"]}, 'there is no format "tiff"; choose from png, jpeg, webp, gif'),
    "path as format": (
        {"formats": ["../x"]},
        'there is no format "../x"; choose from png, jpeg, webp, gif',
    ),
    "negative pause": ({"pause": -1}, 'pause is "-1"; give seconds from 0 to 3600'),
    "pause that is no number": ({"pause": float("nan")}, 'pause is "nan"; give seconds from 0 to 3600'),
    "endless pause": ({"pause": float("inf")}, 'pause is "inf"; give seconds from 0 to 3600'),
    "empty into": ({"into": "\0"}, 'into is "\\x00"; give a folder below the data folder, such as images/posters'),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_a_wrong_argument_is_refused_with_the_way_to_mend_it(folder: Path, arguments: dict, message: str):
    source = saved(folder / "a.png")

    with pytest.raises(BadArgument) as fault:
        create_image_set(source, **arguments)

    assert str(fault.value) == message
