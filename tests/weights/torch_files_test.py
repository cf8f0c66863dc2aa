"""Files that PyTorch wrote (tests/data/make_torch_files.py), and pickles that attack the reader."""

import collections
import io
import math
import pathlib
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from watching import watch

from initjax.support.errors import UserError
from initjax.weights import read, torch_files, torch_pickle

DATA = pathlib.Path(__file__).parent / "data"
MAGIC = 0x1950A86A20F9469CFC6C


def values(*shape, dtype=np.float32):
    return (np.arange(math.prod(shape)) * 0.25 - 1).astype(dtype).reshape(shape)


BASE = values(4, 5)
STATE_DICT = {
    "conv.weight": values(2, 3, 1, 2),
    "parameter": values(3),
    "transposed": BASE.T,
    "slice": BASE[1:3, 1:4],
    "column": values(40, 3)[:, 1],
    "flipped_axes": values(2, 3, 4).transpose(2, 0, 1),
    "tied": values(2, 3),
    "half": values(3, 4, dtype=np.float16),
    "bfloat16": values(3, 4, dtype=ml_dtypes.bfloat16),
    "double": values(2, dtype=np.float64),
    "complex": (values(3) - 1j * values(3)).astype(np.complex64),
    "int64": np.arange(-2, 3),
    "uint8": np.arange(3, dtype=np.uint8),
    "bool": np.array([True, False, True]),
    "scalar": np.float32(2.5),
}


def assert_holds(checkpoint, expected):
    assert [tensor.path for tensor in checkpoint.tensors] == list(expected)
    for tensor in checkpoint.tensors:
        array, wanted = tensor.load(), np.asarray(expected[tensor.path])
        assert (tensor.shape, tensor.dtype) == (wanted.shape, wanted.dtype.name)
        assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype)
        assert tensor.layout == "torch"
        np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize(
    "filename, format_name",
    [("state_dict.pth", "torch"), ("state_dict_legacy.pth", "torch (legacy)")],
)
def test_state_dict(filename, format_name):
    checkpoint = read(DATA / filename)
    assert checkpoint.format == format_name
    assert_holds(checkpoint, STATE_DICT)
    assert dict(checkpoint.skipped) == {
        "tied_again": "it is the same tensor as tied",
        "expanded": "its shape (1000,) does not fit the 4 bytes of its storage",
        "sparse": "it is torch._utils._rebuild_sparse_tensor, which is not read",
        "quantized": "it is torch._utils._rebuild_qtensor, which is not read",
        "empty": "it is empty, shape (0, 3)",
    }


def test_dtypes_of_newer_versions():
    names = "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz".split()
    expected = {name: abs(values(2, 3)).astype(getattr(ml_dtypes, name)) for name in names}
    expected |= {name: abs(values(2, 3)).astype(name) for name in ("uint16", "uint32")}
    assert_holds(read(DATA / "new_dtypes.pth"), expected)


def test_checkpoint_with_other_things_in_it():
    checkpoint = read(DATA / "checkpoint.pth")
    tensors = {tensor.path: tensor for tensor in checkpoint.tensors}
    np.testing.assert_array_equal(tensors["model/module.body.0.weight"].load(), values(2, 3))
    np.testing.assert_array_equal(tensors["averages/0"].load(), values(2))
    assert tensors["optimizer/state/1/exp_avg"].shape == (2, 3)
    skipped = dict(checkpoint.skipped)
    assert skipped["args"] == "it is argparse.Namespace, which is not read"
    assert skipped["losses"] == "it is a list of 2 values, none of which is a tensor"
    assert skipped["averages/1"] == "it is no tensor but None"


def test_module_that_was_pickled_whole():
    tensors = {tensor.path: tensor for tensor in read(DATA / "module.pth").tensors}
    assert list(tensors) == [
        *("0.0.weight", "0.0.bias", "1.weight", "1.bias"),
        *("1.running_mean", "1.running_var", "1.num_batches_tracked"),
    ]
    np.testing.assert_array_equal(tensors["0.0.weight"].load(), values(2, 3))


def test_torchscript():
    expected = {"scale": values(2), "body.0.weight": values(2, 3), "body.0.bias": values(2)}
    assert_holds(read(DATA / "torchscript.pt"), expected)


def test_dicts_of_other_classes(tmp_path):
    value = collections.defaultdict(list, {"inner": {"a": tensor((4,), (1,))}, 3: 1})
    path = write_zip(tmp_path / "w.pt", dumps({"outer": value}), {"0": FOUR.tobytes()})
    checkpoint = read(path)
    assert [tensor.path for tensor in checkpoint.tensors] == ["outer/inner/a"]


class Persistent:
    def __init__(self, identity):
        self.identity = identity


class Named:
    """Pickled as a call of what its name is."""

    def __init__(self, module, name, *arguments):
        self.function = type(name, (), {"__module__": module, "__qualname__": name})
        self.arguments = arguments


class Pickler(pickle._Pickler):
    """Writes what PyTorch would, without it."""

    def persistent_id(self, obj):
        return obj.identity if isinstance(obj, Persistent) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.write(b"c" + f"{obj.function.__module__}\n{obj.function.__name__}\n".encode())
            if obj.arguments:
                self.save(obj.arguments)
                self.write(b"R")
        else:
            super().save(obj, save_persistent_id)


def dumps(value, protocol=2) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def storage(key="0", kind="FloatStorage", size=4, *view):
    return Persistent(("storage", Named("torch", kind), key, "cpu", size, *view))


def tensor(shape, strides, offset=0, of=None):
    arguments = (of or storage(), offset, shape, strides, False, None)
    return Named("torch._utils", "_rebuild_tensor_v2", *arguments)


def write_zip(path, data: bytes, storages=None, byteorder="little", **kwargs):
    with zipfile.ZipFile(path, "w", **kwargs) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", byteorder)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def write_legacy(path, value, storages, protocol=2, data=None):
    parts = [MAGIC, 1001, {"little_endian": True}, value, list(storages)]
    parts = [dumps(part, protocol) for part in parts]
    for content, size in storages.values():
        parts.append(struct.pack("<q", size) + content)
    path.write_bytes(b"".join(parts))
    return path


FOUR = values(4)


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_protocol_of_pickle(tmp_path, protocol):
    data = dumps({"a": tensor((2, 2), (2, 1))}, protocol)
    path = write_zip(tmp_path / "w.pt", data, {"0": FOUR.tobytes()})
    np.testing.assert_array_equal(read(path).tensors[0].load(), FOUR.reshape(2, 2))
    if protocol >= 2:
        path = write_legacy(
            tmp_path / "w.pth", {"a": tensor((4,), (1,))}, {"0": (FOUR.tobytes(), 4)}, protocol
        )
        np.testing.assert_array_equal(read(path).tensors[0].load(), FOUR)


@pytest.mark.parametrize("legacy", [False, True])
def test_bits_of_views_whose_numbers_are_changed_when_read(tmp_path, legacy):
    """What PyTorch 2.13 writes for x.conj() and x.conj().imag, beside the parent of both."""
    stored = (values(4) + 2j).astype(np.complex64)

    def view(name, shape, strides, offset, kind="FloatStorage", **bits):
        of = storage("0" if kind != "FloatStorage" else "1", kind, 8)
        arguments = (of, offset, shape, strides, False, collections.OrderedDict(), bits)
        return Named("torch._utils", name, *arguments)

    state = {
        "imag": view("_rebuild_tensor_v2", (4,), (2,), 1, neg=True),
        "real": view("_rebuild_tensor_v2", (4,), (2,), 0),
        "same": view("_rebuild_tensor_v2", (4,), (2,), 1),
        "conj": view("_rebuild_tensor_v2", (4,), (1,), 0, "ComplexFloatStorage", conj=True),
        "both": view(
            "_rebuild_tensor_v2", (4,), (1,), 0, "ComplexFloatStorage", conj=True, neg=True
        ),
    }
    data = stored.tobytes()
    if legacy:
        storages = {"1": (data, 8), "0": (data, 4)}
        path = write_legacy(tmp_path / "w.pth", state, storages)
    else:
        path = write_zip(tmp_path / "w.pt", dumps(state), {"0": data, "1": data})
    expected = {"imag": -stored.imag, "real": stored.real, "same": stored.imag}
    expected |= {"conj": stored.conj(), "both": -stored.conj()}
    assert_holds(read(path), expected)


def test_big_endian(tmp_path):
    storages = {"0": FOUR.astype(">f4").tobytes()}
    path = write_zip(tmp_path / "w.pt", dumps({"a": tensor((2, 2), (1, 2))}), storages, "big")
    np.testing.assert_array_equal(read(path).tensors[0].load(), FOUR.reshape(2, 2).T)


def test_legacy_views_and_classes_with_their_source(tmp_path):
    module = Persistent(("module", Named("nets", "Net"), "nets.py", "import os"))
    view = storage("0", "FloatStorage", 4, ("1", 2, 2))
    value = {"class": module, "view": tensor((2,), (1,), 0, view)}
    path = write_legacy(tmp_path / "w.pth", value, {"0": (FOUR.tobytes(), 4)})
    checkpoint = read(path)
    np.testing.assert_array_equal(checkpoint.tensors[0].load(), FOUR[2:])
    assert checkpoint.skipped == (("class", "it is a class or a function"),)


@pytest.mark.parametrize(
    "value, reason",
    [
        (tensor((5,), (1,)), "does not fit the 16 bytes"),
        (tensor((2,), (1,), 3), "does not fit the 16 bytes"),
        (tensor((10**15,), (1,)), "does not fit the 16 bytes"),
        (tensor((10**9, 10**9), (0, 0)), "does not fit the 16 bytes"),
        (tensor((2,), (-1,), 3), "shape is not valid"),
        (tensor((2,), (1, 1)), "shape is not valid"),
        (tensor((2.0,), (1,)), "shape is not valid"),
        (tensor((1,) * 65, (1,) * 65), "shape is not valid"),
        (tensor((1,), (1,), -1), "offset is not valid"),
        (tensor((1,), (1,), 0, storage("9")), "storage is missing"),
        (tensor((1,), (1,), 0, storage("../../0")), "storage is missing"),
        (tensor((1,), (1,), 0, storage("0", "WeirdStorage")), "dtype WeirdStorage"),
        (Named("torch._utils", "_rebuild_tensor_v2", 1, 2, 3, 4), "it has no storage"),
    ],
)
def test_impossible_tensors_are_skipped(tmp_path, value, reason):
    data = dumps({"bad": value, "good": tensor((4,), (1,))})
    checkpoint = read(write_zip(tmp_path / "w.pt", data, {"0": FOUR.tobytes()}))
    assert [tensor.path for tensor in checkpoint.tensors] == ["good"]
    assert reason in dict(checkpoint.skipped)["bad"]


def test_views_of_one_storage_cannot_multiply_it(tmp_path):
    views = [tensor((1000 - i,), (1,), i) for i in range(200)]
    with pytest.raises(UserError, match="too small"):
        read(write_zip(tmp_path / "w.pt", dumps(views), {"0": bytes(4000)}))


NAMED = [
    b"cos\nsystem\n(X\x05\x00\x00\x00touch",
    b"\x80\x04\x8c\x02os\x8c\x06system\x93(\x8c\x05touch",
]
ATTACKS = {
    "reduce": NAMED[0] + b"tR.",
    "stack_global": NAMED[1] + b"tR.",
    "inst": b"(X\x05\x00\x00\x00touchios\nsystem\n.",
    "obj": b"(cos\nsystem\nX\x05\x00\x00\x00toucho.",
    "newobj": NAMED[0] + b"t\x81.",
    "newobj_ex": b"cos\nsystem\n(X\x05\x00\x00\x00toucht}\x92.",
    "build": b"ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__cos\nsystem\nsbX\x05\x00"
    b"\x00\x00touchb.",
    "getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n("
    b"X\x02\x00\x00\x00ostRX\x06\x00\x00\x00"
    b"systemtR(X\x05\x00\x00\x00touchtR.",
    "dotted": b"\x80\x04\x8c\x05torch\x8c\x0bos.sys.path\x93)R.",
    "from_type": b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\ncos\npath\n("
    b"X\x05\x00\x00\x00"
    b"touchtNtR.",
    "eval": b"cbuiltins\neval\n(X\x0a\x00\x00\x00__import__tR.",
    "persistent": b"Pos.system\n.",
    "extension": b"\x82\x01.",
    "buffer": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("place", ["zip", "legacy"])
def test_nothing_is_called(tmp_path, name, place):
    attack = ATTACKS[name]
    path = tmp_path / "w.pt"
    if place == "zip":
        write_zip(path, attack)
    else:
        path.write_bytes(dumps(MAGIC) + dumps(1001) + attack + attack + dumps([]))
    with watch():
        try:
            checkpoint = read(path)
        except UserError:
            return
    assert not checkpoint.tensors
    for _, reason in checkpoint.skipped:
        assert "not read" in reason or "a class" in reason


def test_a_pickle_of_something_else(tmp_path):
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match="PyTorch did not write"):
        read(path)


def nested(wrap: bytes, last: bytes = b".", count=200) -> bytes:
    return b"\x80\x02)" + wrap * count + last


@pytest.mark.slow
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "data",
    {
        "tuples in tuples": nested(b"2\x86"),
        "tuples in tuples as a key": b"\x80\x02}" + nested(b"2\x86", b"Ns.")[2:],
        "tuples in tuples in a set": b"\x80\x04\x8f(" + nested(b"2\x86", b"\x90.")[2:],
        "lists in lists": b"\x80\x02]" + b"q\x00]h\x00ah\x00a" * 200 + b".",
        "a list of itself": b"\x80\x02]q\x00h\x00a.",
        "a dict of itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
        "deep tuples": nested(b"\x85", count=100_000),
        "deep tuples as what is referred to": nested(b"\x85", b"Q.", count=100_000),
        "deep tuples as a global": nested(b"\x85", b"\x93.", count=100_000),
        "deep tuples as a function": nested(b"\x85", b")R.", count=100_000),
        "a memo of holes": b"\x80\x02Nr\xff\xff\xff\xff.",
        "a memo of negative index": b"Np-1\n.",
        "a memo of colliding indices": b"N" + b"".join(
            b"p%d\n" % (i * (2**61 - 1)) for i in range(20_000)
        ),
        "a long string that is not there": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
        "long bytes that are not there": b"\x80\x04\x8e" + b"\xff" * 4 + b"\0" * 4 + b".",
        "a long integer that is not there": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "a long decimal": b"I" + b"9" * 100_000 + b"\n.",
        "large numbers as a shape": b"\x80\x02ctorch._utils\n_rebuild_tensor\n(NK\x00\x8a\xff"
        + b"\x7f" * 255 + b"\x85K\x01\x85tR.",
        "a long name of a global": b"\x80\x02X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"h\x00\x93.",
        "one list in many calls": b"\x80\x02](" + b"(NNl" * 20_000 + b"eq\x00"
        + b"ccollections\nOrderedDict\nh\x00\x85R" * 20_000 + b".",
        "one tuple in many calls": b"\x80\x02(" + b"N" * 50_000 + b"tq\x00"
        + b"ccollections\nOrderedDict\nh\x00R" * 20_000 + b".",
        "one list in many places": b"\x80\x02](" + b"N" * 50_000 + b"eq\x00](" + b"h\x00" * 50_000
        + b"e.",
        "a name with an escape": b"cos\\c\nsystem\n.",
        "a long float": b"F" + b"x" * 100_000 + b"\n.",
        "no end": b"\x80\x02N",
        "an empty stack": b"\x80\x020.",
        "an append to a number": b"\x80\x02K\x01K\x02a.",
        "an item of a list": b"\x80\x02]NNs.",
        "a key without a value": b"\x80\x02}(Nu.",
        "marks": b"\x80\x02" + b"(" * 100_000 + b".",
        "surrogates": b"\x80\x02}X\x03\x00\x00\x00\xed\xa0\x80Ns.",
    }.values(),
)  # fmt: skip
def test_bombs(tmp_path, data):
    """Each ends soon, with a checkpoint without tensors or with an error."""
    with watch(megabytes=64):
        try:
            assert not read(write_zip(tmp_path / "w.pt", data)).tensors
        except UserError as error:
            assert len(str(error)) < 1000


@pytest.mark.slow
def test_long_paths_cannot_fill_the_memory(tmp_path):
    name = b"X\x00\x00\x01\x00" + b"a" * (1 << 16) + b"q\x00"
    data = b"\x80\x02}" + name + b"}" + b"h\x00)s" * 70_000 + b"s."
    with watch(megabytes=100):
        with pytest.raises(UserError, match="too long"):
            read(write_zip(tmp_path / "w.pt", data))


def test_number_of_reported_entries_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_files, "_MAX_SKIPPED", 10)
    entries = {"a": tensor((4,), (1,)), **dict.fromkeys(range(20))}
    with pytest.raises(UserError, match="more than 10 entries"):
        read(write_zip(tmp_path / "w.pt", dumps(entries), {"0": FOUR.tobytes()}))


def test_number_of_operations_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_pickle, "_MAX_OPERATIONS", 1000)
    with pytest.raises(UserError, match="more than 1000 operations"):
        read(write_zip(tmp_path / "w.pt", b"\x80\x02" + b"N0" * 600 + b"N."))


def test_names_cannot_command_a_terminal(tmp_path):
    data = dumps({"\x1b[2J\n": tensor((4,), (1,)), "\u202e": 1})
    checkpoint = read(write_zip(tmp_path / "w.pt", data, {"0": FOUR.tobytes()}))
    assert checkpoint.tensors[0].path == r"\x1b[2J\n"
    assert checkpoint.skipped[0][0] == r"\u202e"


def test_compressed_archives_are_refused(tmp_path):
    data = dumps({"a": tensor((4,), (1,))})
    path = write_zip(
        tmp_path / "w.pt", data, {"0": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(UserError, match="compressed"):
        read(path)


@pytest.mark.slow
@pytest.mark.parametrize("filename", ["state_dict.pth", "state_dict_legacy.pth", "module.pth"])
def test_truncated(tmp_path, filename):
    """Wherever a file ends: an error, or the tensors that are whole, and the rest reported."""
    content = (DATA / filename).read_bytes()
    path = tmp_path / filename
    for size in range(0, len(content), 41):
        path.write_bytes(content[:size])
        try:
            checkpoint = read(path)
        except UserError:
            continue
        assert any("ends before" in reason for _, reason in checkpoint.skipped)
        for tensor in checkpoint.tensors:
            np.testing.assert_array_equal(tensor.load(), STATE_DICT[tensor.path])


def test_file_that_changes_after_it_was_opened(tmp_path):
    path = write_zip(tmp_path / "w.pt", dumps({"a": tensor((4,), (1,))}), {"0": FOUR.tobytes()})
    (tensor_,) = read(path).tensors
    path.write_bytes(b"")
    with pytest.raises(UserError, match="not complete"):
        tensor_.load()
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        tensor_.load()
