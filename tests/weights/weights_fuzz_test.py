"""Mutated files of every format: nothing but tensors, skips and `UserError` comes of them.

Each file is read, and all tensors that are found are loaded, under a limit of time and of memory,
and under the audit hooks of `watching`.
"""

import contextlib
import functools
import io
import os
import pathlib
import pickle
import pickletools
import shutil
import signal
import struct
import zipfile

import flax.serialization
import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from watching import watch
from weights.torch_files_test import ATTACKS

from initjax.support.errors import UserError
from initjax.weights import dequantize, find_axes, read, tensors

pytestmark = pytest.mark.slow

DATA = pathlib.Path(__file__).parent / "data"
SECONDS = 10
MEGABYTES = 64  # of files of some KiB


class Hang(BaseException):
    """Not an Exception, which a reader might turn into an error of the file."""


def _interrupt(*_):
    raise Hang


@contextlib.contextmanager
def limited():
    before = signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with watch(megabytes=MEGABYTES):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(path) -> bool:
    """Reads all that can be read, and says whether there was something."""
    found = False
    with limited():
        try:
            checkpoint = read(path)
        except UserError as error:
            assert str(error) and len(str(error)) < 2000
            return False
        checkpoint = dequantize(checkpoint)
        assert all(isinstance(reason, str) for _, reason in checkpoint.skipped)
        shapes = {tensor.path: tensor.shape for tensor in checkpoint.tensors}
        for tensor in checkpoint.tensors:
            find_axes(tensor, shapes)
            with contextlib.suppress(UserError):
                tensor.load().tobytes()
                found = True
    return found


@pytest.fixture(autouse=True)
def small_archives(monkeypatch):
    """Compressed tensors may be as large here as other tensors."""
    monkeypatch.setattr(tensors, "_FREE_BYTES", 1 << 20)


def test_what_watches():
    unpickle = functools.partial(pickle.loads, b"cos\nsep\n.")
    for attack in (lambda: os.system("true"), lambda: eval("1"), unpickle):
        with pytest.raises(AssertionError), limited():
            attack()
    with pytest.raises(AssertionError), limited():
        np.empty((MEGABYTES + 1) << 20, np.uint8)


def fuzz(strategy, write, examples: int, some_readable: bool = True) -> None:
    """Runs `examples` files of `strategy`, each of which `write` puts to a path."""
    count = found = 0

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def run(value):
        nonlocal count, found
        count += 1
        found += check(write(value))

    run()
    assert count >= examples
    # Some mutations leave something to read, and some do not.
    assert found < count and (found > 0 or not some_readable)


# Numbers that are lengths, offsets or codes somewhere.
_POWERS = [2**bits + delta for bits in (7, 8, 15, 16, 31, 32, 62, 63, 64) for delta in (-1, 0)]
NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 10**15, *_POWERS])
POSITIONS = st.integers(0, 2**16)
EDITS = st.one_of(
    st.tuples(st.just("flip"), POSITIONS, st.integers(0, 7)),
    st.tuples(st.just("set"), POSITIONS, st.integers(0, 255)),
    st.tuples(st.just("number"), POSITIONS, NUMBERS, st.sampled_from(["<B", "<H", "<I", "<Q"])),
    st.tuples(st.just("number"), POSITIONS, NUMBERS, st.sampled_from([">B", ">H", ">I", ">Q"])),
    st.tuples(st.just("delete"), POSITIONS, st.integers(1, 64)),
    st.tuples(st.just("repeat"), POSITIONS, st.integers(1, 64)),
    st.tuples(st.just("insert"), POSITIONS, st.binary(min_size=1, max_size=12)),
    st.tuples(st.just("copy"), POSITIONS, POSITIONS, st.integers(1, 64)),
    st.tuples(st.just("truncate"), POSITIONS),
    st.tuples(st.just("digit"), POSITIONS, st.sampled_from(b"0123456789-.,[](){}':\"e ")),
)


def mutate(data: bytes, edits) -> bytes:
    data = bytearray(data)
    for kind, position, *values in edits:
        if not data:
            break
        at = position % len(data)
        if kind == "flip":
            data[at] ^= 1 << values[0]
        elif kind == "set":
            data[at] = values[0]
        elif kind == "number":
            size = struct.calcsize(values[1])
            data[at : at + size] = struct.pack(values[1], values[0] % 256**size)
        elif kind == "delete":
            del data[at : at + values[0]]
        elif kind == "repeat":
            data[at:at] = data[at : at + values[0]]
        elif kind == "insert":
            data[at:at] = values[0]
        elif kind == "copy":
            source = values[0] % len(data)
            data[at : at + values[1]] = data[source : source + values[1]]
        elif kind == "truncate":
            del data[at:]
        elif chr(data[at]).isascii() and chr(data[at]).isprintable():
            data[at] = values[0]
    return bytes(data)


def mutated(*originals: bytes, part=lambda data: slice(None)):
    """Mutations of the part of files that `part` picks."""

    def apply(original, edits):
        chosen = part(original)
        start, stop, _ = chosen.indices(len(original))
        return original[:start] + mutate(original[start:stop], edits) + original[stop:]

    return st.builds(apply, st.sampled_from(originals), st.lists(EDITS, min_size=1, max_size=4))


def arrays():
    values = np.arange(12, dtype=np.float32) - 6
    return {
        "Dense_0/kernel": values.reshape(3, 4),
        "Dense_0/bias": values[:4].astype(np.float16),
        "step": np.array(3),
        "mask": values > 0,
    }


def npz(save) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays())
    return stream.getvalue()


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def directory(data: bytes) -> slice:
    """The central directory of a ZIP archive, whose offset is 6 bytes before its end."""
    (offset,) = struct.unpack("<I", data[-6:-2])
    return slice(offset, None)


@pytest.fixture
def write(tmp_path):
    def write_bytes(data: bytes):
        path = tmp_path / "weights"
        path.write_bytes(data)
        return path

    return write_bytes


def test_safetensors(write):
    original = safetensors.numpy.save(arrays() | {"b": np.ones(4, ml_dtypes.bfloat16)})
    header = 8 + int.from_bytes(original[:8], "little")
    fuzz(mutated(original), write, 150)
    fuzz(mutated(original, part=lambda _: slice(8, header)), write, 150)
    # Nearly every change of these bytes, the length of the header, makes it unreadable.
    fuzz(mutated(original, part=lambda _: slice(8)), write, 50, some_readable=False)


def test_quantized(write):
    """Shapes, dtypes and numbers of the parts that make a weight, changed one against the other."""
    numbers = np.arange(64, dtype=np.int32).reshape(8, 8)
    parts = {
        "a.qweight": numbers,
        "a.qzeros": numbers[:2, :1],
        "a.scales": np.ones((2, 8), np.float16),
        "a.g_idx": np.repeat(np.arange(2, dtype=np.int32), 32),
        "b.weight": numbers.astype(np.int8),
        "b.SCB": np.ones(8, np.float32),
        "c.weight": numbers.astype(ml_dtypes.float8_e4m3fn),
        "c.weight_scale_inv": np.ones((1, 1), np.float32),
    }
    original = safetensors.numpy.save(parts)
    header = 8 + int.from_bytes(original[:8], "little")
    fuzz(mutated(original, part=lambda _: slice(8, header)), write, 150)
    fuzz(mutated(original, part=lambda _: slice(header, None)), write, 50)


def test_index_of_shards(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(safetensors.numpy.save(arrays()))
    original = b'{"metadata": {}, "weight_map": {"step": "a.safetensors", "b": "a.safetensors"}}'

    def write_index(data: bytes):
        path = tmp_path / "model.safetensors.index.json"
        path.write_bytes(data)
        return path

    fuzz(mutated(original), write_index, 100)


def test_npy(write):
    originals = [npy(array) for array in arrays().values()]
    fuzz(mutated(*originals), write, 100)
    fuzz(mutated(*originals, part=lambda _: slice(8, 70)), write, 100)


def test_npz(write):
    originals = npz(np.savez), npz(np.savez_compressed)
    fuzz(mutated(*originals), write, 200)
    fuzz(mutated(*originals, part=directory), write, 150)


def test_msgpack(write, monkeypatch):
    tree = {"params": arrays(), "list": [1.5, None, "text", b"bytes", 1j, np.float32(2)]}
    original = flax.serialization.msgpack_serialize(tree)
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 16)
    fuzz(mutated(original, flax.serialization.msgpack_serialize(tree)), write, 350)


FILES = [path.read_bytes() for path in sorted(DATA.glob("*.p[t]*"))]
ZIPS = [data for data in FILES if data[:2] == b"PK"]
LEGACY = [data for data in FILES if data[:2] != b"PK"]


def test_there_are_files_of_both_formats():
    assert len(ZIPS) == 5 and len(LEGACY) == 1


def test_torch_zip(write):
    fuzz(mutated(*ZIPS), write, 150)
    fuzz(mutated(*ZIPS, part=directory), write, 200)


def test_torch_legacy(write):
    fuzz(mutated(*LEGACY), write, 300)


def split(pickled: bytes) -> list[bytes]:
    """The operations of a pickle."""
    starts = [position for _, _, position in pickletools.genops(pickled)]
    return [pickled[a:b] for a, b in zip(starts, [*starts[1:], len(pickled)], strict=True)]


def extract(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


MEMBERS = [extract(data) for data in ZIPS]
PICKLES = [next(c for n, c in members.items() if n.endswith("data.pkl")) for members in MEMBERS]
OPERATIONS = [split(pickled) for pickled in PICKLES]
SNIPPETS = [
    *(attack[2:] if attack[:1] == b"\x80" else attack for attack in ATTACKS.values()),
    *(attack[:-1] for attack in ATTACKS.values()),
    *(bytes([ord(opcode.code)]) for opcode in pickletools.opcodes if opcode.arg is None),
    *(b"2\x86" * 50, b"2\x86" * 50 + b"}2\x86Ns", b"q\x00h\x00h\x00\x86", b"r\xff\xff\xff\xff"),
    *(b"h\x00", b"h\x01", b"K\x00", b"\x8a\x01\xff", b"I-1\n", b"X\x01\x00\x00\x00a", b")R", b"bb"),
    *(b"\x8d" + b"\xff" * 8, b"\x8b\xff\xff\xff\x7f", b"\x95" + b"\xff" * 8),
]


@st.composite
def programs(draw):
    """An archive whose pickle has operations inserted, removed, repeated and exchanged."""
    which = draw(st.integers(0, len(MEMBERS) - 1))
    operations = list(OPERATIONS[which])
    others = draw(st.sampled_from(OPERATIONS))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(POSITIONS) % (len(operations) + 1)
        kind = draw(st.sampled_from(["insert", "insert", "delete", "repeat", "other", "exchange"]))
        if kind == "insert":
            operations.insert(at, draw(st.sampled_from(SNIPPETS)))
        elif kind == "delete":
            del operations[at : at + draw(st.integers(1, 4))]
        elif kind == "repeat":
            operations[at:at] = operations[at : at + draw(st.integers(1, 20))]
        elif kind == "other":
            start = draw(POSITIONS) % len(others)
            operations[at:at] = others[start : start + draw(st.integers(1, 20))]
        elif operations:
            other = draw(POSITIONS) % len(operations)
            at %= len(operations)
            operations[at], operations[other] = operations[other], operations[at]
    name = next(name for name in MEMBERS[which] if name.endswith("data.pkl"))
    return archive_of(MEMBERS[which] | {name: b"".join(operations)})


def test_torch_pickles(write):
    fuzz(programs(), write, 500)


@st.composite
def bytes_of_pickles(draw):
    which = draw(st.integers(0, len(MEMBERS) - 1))
    name = next(name for name in MEMBERS[which] if name.endswith("data.pkl"))
    return archive_of(MEMBERS[which] | {name: draw(mutated(PICKLES[which]))})


def test_bytes_of_torch_pickles(write):
    fuzz(bytes_of_pickles(), write, 250)


def test_orbax(tmp_path):
    """Fewer: a checkpoint is a folder of small files, one of which is changed at a time."""
    original = tmp_path / "original"
    with ocp.PyTreeCheckpointer(use_ocdbt=False) as checkpointer:
        checkpointer.save(original / "files", arrays())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(original / "store", arrays())
    read(original / "files").tensors[0].load()  # what is imported and started late
    files = [path for path in sorted(original.rglob("*")) if path.is_file()]
    contents = {path: path.read_bytes() for path in files}
    choices = st.sampled_from([path for path in files if contents[path]])

    def write_folder(change):
        path, edits = change
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        name = path.relative_to(original).parts[0]
        shutil.copytree(original / name, folder)
        (folder / path.relative_to(original / name)).write_bytes(mutate(contents[path], edits))
        return folder

    fuzz(st.tuples(choices, st.lists(EDITS, min_size=1, max_size=3)), write_folder, 120)
