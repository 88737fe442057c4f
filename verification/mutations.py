"""Mutations of files: of their bytes, of what JSON holds, and forgeries whose sums are right."""

import functools
import gzip
import hashlib
import io
import json
import pickle
import random
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd
from numpy.lib import format as npy

from mutagrad.run import journal as journals
from mutagrad.run import sums

INTEGERS = (0, 1, 2, 127, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        3,
        2**31,
        2**62,
        10**20,
        -(10**20),
        1e300,
        0.5,
        "",
        "x",
        "x" * 5000,
        "σ\n\x1b[2J",
        "\ud800",
    ),
    *("../../x", "/etc/passwd", "float32", "object", "O", "|O8", "datetime64[s]", "U9", "inf", "nan", "9" * 5000),
    *(
        [],
        {},
        [[]],
        [0],
        [2**40, 2**40],
        [-1],
        ["x"],
        {"x": 1},
        [None] * 1000,
        {"name": "numcodecs.pickle", "configuration": {}},
    ),
)
TEXTS = ("NaN", "1e999", "-Infinity", "[" * 100_000, '{"a":' * 5000, "9" * 5000, '{"a": 1, "a": 2}', "01", "'x'", "")


def any_bytes(data: bytes, generator: random.Random, other: bytes = b"") -> bytes:
    """Bytes changed, cut, moved, or taken from another file, once or a few times."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 4))):
        size, kind = len(changed), generator.randrange(10)
        place = generator.randrange(size + 1)
        length = min(generator.choice((1, 2, 4, 8, 64, 4096)), size - place)
        if kind == 0 and place < size:
            changed[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            changed[place : place + length] = generator.randbytes(length)
        elif kind == 2:
            changed[place : place + length] = generator.choice((b"\0", b"\xff")) * length
        elif kind == 3:
            del changed[place:]
        elif kind == 4:
            del changed[place : place + length]
        elif kind == 5:
            changed[place:place] = generator.randbytes(generator.randint(1, 100))
        elif kind == 6:
            changed[place:place] = changed[place : place + length] * generator.choice((1, 3))
        elif kind == 7 and other:
            start = generator.randrange(len(other))
            changed[place:] = other[start:]
        elif kind == 8:
            number = generator.choice(INTEGERS).to_bytes(8, generator.choice(("little", "big")))
            width = generator.choice((2, 4, 8))
            changed[place : place + width] = number[:width] if number[0] else number[-width:]
        elif generator.random() < 0.1:
            changed = bytearray(generator.choice((b"", other, b"\0" * size, b"\xff\xfe" * size, b"{" * size)))
    return bytes(changed)


def value(found: Any, generator: random.Random) -> Any:
    """Something in what JSON holds is something else, missing, there twice or called something else."""
    if isinstance(found, dict | list) and found and generator.random() < 0.9:
        place = generator.choice(list(found) if isinstance(found, dict) else range(len(found)))
        kind, changed = generator.randrange(10), found.copy()
        if kind == 0:
            del changed[place]
        elif kind == 1 and isinstance(changed, dict):
            changed[generator.choice(("x", "../x", "", "σ", "99999999999999999999", *changed))] = changed.pop(place)
        elif kind == 2 and isinstance(changed, list):
            changed = changed * generator.choice((2, 50))
        else:
            changed[place] = value(found[place], generator)
        return changed
    if isinstance(found, int) and not isinstance(found, bool) and generator.random() < 0.5:
        return generator.choice((found + 1, -found, float(found), str(found), *INTEGERS))
    return generator.choice(VALUES)


def json_bytes(data: bytes, generator: random.Random) -> bytes:
    """JSON of which something is changed, also in ways that no writer of JSON makes."""
    changed = json.loads(data)
    for _ in range(generator.choice((1, 1, 2, 3))):
        changed = value(changed, generator)
    text = json.dumps(changed, indent=generator.choice((None, 2)))
    if generator.random() < 0.2 and ": " in text:
        head, tail = text.split(": ", 1)
        text = f"{head}: {generator.choice(TEXTS)}{tail if generator.random() < 0.5 else '}'}"
    if generator.random() < 0.05:
        return text.encode(generator.choice(("utf-16", "utf-32", "utf-8-sig")), "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


def signed(data: bytes, generator: random.Random) -> bytes:
    """What `mutagrad.run.sums.write_signed` would write of contents that are changed."""
    changed = json.loads(data)
    changed.pop("sha256")
    for _ in range(generator.choice((1, 1, 2, 3))):
        changed = value(changed, generator)
    if not isinstance(changed, dict):
        return json.dumps(changed).encode()
    return json.dumps(changed | {"sha256": sums._signature(changed)}).encode()


def sign_again(folder: Path, name: Path, generator: random.Random) -> None:
    """The sums of a file that was forged are what they should be."""
    if name.name == "config.json":
        manifest = folder / "manifest.json"
        if generator.random() < 0.3:
            manifest.unlink()
            return
        content = json.loads(manifest.read_text())
        content.pop("sha256")
        content["files"]["config.json"] = [hashlib.sha256((folder / name).read_bytes()).hexdigest()]
        sums.write_signed(manifest, content)
    elif len(name.parts) > 2 and name.parts[0] == "checkpoint":
        described = sums.read_signed(folder / "checkpoint" / f"{name.parts[1]}.json")
        assert described is not None
        described["files"] = sums.sums_of(folder / "checkpoint" / name.parts[1])
        sums.write_signed(folder / "checkpoint" / f"{name.parts[1]}.json", described)


def journal(data: bytes, generator: random.Random) -> bytes:
    """Blocks whose checksums are right: another head, other rows, blocks of other places, twice or in another order."""
    found = [(one.rows, one.first, data[one.start : one.stop]) for one in journals._blocks(data)]
    heads, blocks = [one for one in found if not one[0]], [one for one in found if one[0]]
    kind, place = generator.randrange(8), generator.randrange(len(blocks))
    rows, first, payload = blocks[place]
    if kind <= 2:
        heads = [(0, 0, json_bytes(heads[0][2], generator))] * 2
    elif kind == 3:
        blocks[place] = (rows, first, any_bytes(payload, generator))
    elif kind == 4:
        blocks[place] = (generator.choice(INTEGERS[:10]), generator.choice((first, *INTEGERS)), payload)
    elif kind == 5:
        generator.shuffle(blocks)
    elif kind == 6:
        blocks[place] = (rows, first, generator.randbytes(len(payload)))
    else:
        blocks += [
            (rows, first + generator.choice(INTEGERS[:11]) * step, payload)
            for step in range(generator.choice((1, 2000)))
        ]
    return b"".join(journals._block(one[0], one[1] % 2**64, one[2]) for one in (*heads, *blocks))


@functools.cache
def _bomb() -> bytes:
    """Four gigabytes of zeros, deflated."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, size in (("x_train", 2**30), ("y_train", 40)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (size,)})  # type: ignore[arg-type]
                for _ in range(max(4 * size // 2**24, 1)):
                    file.write(bytes(min(2**24, 4 * size)))
    return output.getvalue()


class _Touch:
    """Unpickled, it writes a file."""

    def __reduce__(self) -> Any:
        return open, ("unpickled", "w")


def npz(data: bytes, generator: random.Random) -> bytes:
    """Archives whose checksums are right: arrays with other headers, objects, other names and methods, and sizes that lie."""
    kind = generator.random()
    if kind < 0.01:
        return _bomb()
    output = io.BytesIO()
    methods = (zipfile.ZIP_STORED, *3 * (zipfile.ZIP_DEFLATED,), zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(one.filename, archive.read(one)) for one in archive.infolist()]
    place = generator.randrange(len(members))
    name, content = members[place]
    members[place] = (
        (name, _npy(content, generator))
        if kind < 0.7
        else (generator.choice(("y_train.npy", "x", "../x", "é")), content)
    )
    with warnings.catch_warnings(), zipfile.ZipFile(output, "w", generator.choice(methods)) as archive:
        warnings.simplefilter("ignore")  # a name may be there twice
        for name, content in members:
            archive.writestr(name, content)
    made = output.getvalue()
    if kind > 0.9:
        # The directory lies about the sizes of its first member.
        start = made.rfind(b"PK\x01\x02", 0, made.find(b"PK\x05\x06"))
        sizes = struct.pack("<II", *(generator.choice(INTEGERS[:10]) for _ in range(2)))
        made = made[: start + 20] + sizes + made[start + 28 :]
    return made


def _npy(content: bytes, generator: random.Random) -> bytes:
    array, kind = np.load(io.BytesIO(content)), generator.randrange(6)
    output = io.BytesIO()
    if kind == 0:
        npy.write_array_header_1_0(output, {"descr": "|O", "fortran_order": False, "shape": (1,)})  # type: ignore[arg-type]
        return output.getvalue() + pickle.dumps([_Touch()])
    if kind == 1:
        changed = generator.choice(
            (array[:0], array[..., None], array * 10**9, -array, array + 0.5, array.astype("S3"), array * np.nan)
        )
        np.save(output, changed)
        return output.getvalue()
    if kind == 2:
        return any_bytes(content, generator)
    descr = generator.choice(
        ("<f4", "<f8", "|u1", "<c16", "|V0", "<U99", "<M8[s]", "|O", "<i8", [["a", "<f4"]], "nonsense")
    )
    shape = generator.choice(((2**62,), (2**31, 2**31), (10**12,), (-1,), array.shape, (), (0,), (2**40, 0), (1,) * 70))
    text = repr({"descr": descr, "fortran_order": generator.random() < 0.2, "shape": shape})
    if kind == 5:
        text = generator.choice(
            ("(" * 9000, "{" * 3000, text * 9000, "\0" * 10, text[:-3], "9" * 9000, "[" * 5000 + "]" * 5000)
        )
    major = generator.choice((1, 2, 3, 9))
    length = generator.choice((len(text), len(text), 2**16 - 1, 2**32 - 1))
    head = struct.pack("<H", min(length, 2**16 - 1)) if major == 1 else struct.pack("<I", length)
    return b"\x93NUMPY" + bytes([major, 0]) + head + text.encode("latin-1") + content[-array.nbytes :]


def write_mnist(folder: Path) -> None:
    """The four files of a data set like MNIST, of a few images, two of them compressed."""
    rng = np.random.default_rng(1)
    for part, number in (("train", 30), ("t10k", 9)):
        images, labels = rng.integers(0, 256, (number, 28, 28)), np.arange(number) % 10
        for name, array, write in (("images-idx3", images, gzip.compress), ("labels-idx1", labels, bytes)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            ending = ".gz" if write is gzip.compress else ""
            (folder / f"{part}-{name}-ubyte{ending}").write_bytes(write(head + array.astype(np.uint8).tobytes()))


def idx(data: bytes, generator: random.Random) -> bytes:
    """IDX files, or their gzip data, that say another size than they have, and bombs."""
    is_zipped = data[:2] == b"\x1f\x8b"
    plain = bytearray(gzip.decompress(data) if is_zipped else data)
    kind = generator.randrange(5)
    if kind <= 1:
        place = 4 + 4 * generator.randrange(plain[3])
        plain[place : place + 4] = generator.choice((0, 1, 2**20, 2**31, 2**32 - 1)).to_bytes(4, "big")
    elif kind == 2:
        plain[3] = generator.choice((0, 1, 2, 64, 65, 255))
    elif kind == 3:
        plain[4:] = any_bytes(bytes(plain[4:]), generator)
    elif generator.random() < 0.1:
        return _zeros()
    return gzip.compress(plain, 1) if is_zipped else bytes(plain)


@functools.cache
def _zeros() -> bytes:
    """A gigabyte of zeros that says it is of 39 images, deflated."""
    output = io.BytesIO()
    with gzip.open(output, "wb", 1) as file:
        file.write(bytes([0, 0, 8, 3, 0, 0, 0, 30, 0, 0, 0, 28, 0, 0, 0, 28]))
        for _ in range(64):
            file.write(bytes(2**24))
    return output.getvalue()


def zarr(data: bytes, generator: random.Random) -> bytes:
    """Metadata that say something else, and chunks with right checksums that hold something else."""
    if data[:1] == b"{":
        return json_bytes(data, generator)
    import google_crc32c

    size = generator.choice((0, 1, 2**16, 2**18, 2**19, 2**19, 2**29))
    frame = Zstd(3).encode(generator.randbytes(16) * (size // 16) if size < 2**20 else np.zeros(size, np.uint8))
    if generator.random() < 0.5:
        frame = any_bytes(frame, generator)
    return bytes(frame) + struct.pack("<I", google_crc32c.value(bytes(frame)))
