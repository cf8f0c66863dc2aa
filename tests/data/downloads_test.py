import contextlib
import gzip
import hashlib
import http.server
import io
import socket
import struct
import tarfile
import threading
import time

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds

from initjax import data
from initjax.data import downloads
from initjax.data.downloads import DATASETS
from initjax.support import fetch
from initjax.support.errors import UserError

SIZES = {"train": 20, "test": 10, "extra": 5}


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    monkeypatch.setenv("INITJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Server:
    """Files on loopback; a path in `broken` ends in the middle of its announced length."""

    def __init__(self):
        server = self
        self.files = {}
        self.broken = set()
        self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append(self.path)
                if self.path not in server.files:
                    self.send_error(404)
                    return
                content = server.files[self.path]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                cut = len(content) // 2 if self.path in server.broken else len(content)
                with contextlib.suppress(ConnectionError):  # the client may have heard enough
                    self.wfile.write(content[:cut])

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def draw_examples(rng, split, shape, num_classes):
    """Images and labels; every image is unlike the others, so that order can be told."""
    images = rng.integers(0, 256, (SIZES[split], *shape), dtype=np.uint8)
    return images, rng.integers(0, num_classes, SIZES[split])


def tar_gz(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def cifar_rows(images, *labels):
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.column_stack([*labels, pixels]).astype(np.uint8)


def make_cifar10(splits):
    train = cifar_rows(*splits["train"]).reshape(5, 4, -1)
    prefix = "cifar-10-batches-bin/"
    members = {f"{prefix}data_batch_{i + 1}.bin": train[i].tobytes() for i in range(5)}
    members[f"{prefix}test_batch.bin"] = cifar_rows(*splits["test"]).tobytes()
    names = [f"name{i}" for i in range(10)]
    members[f"{prefix}batches.meta.txt"] = ("\n".join(names) + "\n\n").encode()
    return {"cifar-10-binary.tar.gz": tar_gz(members)}, names


def make_cifar100(splits):
    names = [f"fine{i}" for i in range(100)]
    members = {
        f"cifar-100-binary/{split}.bin": cifar_rows(
            splits[split][0], splits[split][1] // 5, splits[split][1]
        ).tobytes()
        for split in ("train", "test")
    }
    members["cifar-100-binary/fine_label_names.txt"] = ("\n".join(names) + "\n").encode()
    coarse = "\n".join(f"coarse{i}" for i in range(20)) + "\n"
    members["cifar-100-binary/coarse_label_names.txt"] = coarse.encode()
    return {"cifar-100-binary.tar.gz": tar_gz(members)}, names


def make_mnist(splits):
    files = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = splits[split]
        header = struct.pack(">iiii", 2051, len(images), 28, 28)
        files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(header + images.tobytes())
        header = struct.pack(">ii", 2049, len(labels))
        content = header + labels.astype(np.uint8).tobytes()
        files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(content)
    return files, [str(i) for i in range(10)]


def make_fashion_mnist(splits):
    files, _ = make_mnist(splits)
    clothes = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
    return files, clothes.split(",")


def make_svhn_cropped(splits):
    files = {}
    for split, (images, labels) in splits.items():
        buffer = io.BytesIO()
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        images = images.transpose(1, 2, 3, 0)
        scipy.io.savemat(buffer, {"X": images, "y": stored}, do_compression=True)
        files[f"{split}_32x32.mat"] = buffer.getvalue()
    return files, [str(i) for i in range(10)]


SETS = {
    "cifar10": (make_cifar10, (32, 32, 3), 10),
    "cifar100": (make_cifar100, (32, 32, 3), 100),
    "mnist": (make_mnist, (28, 28, 1), 10),
    "fashion_mnist": (make_fashion_mnist, (28, 28, 1), 10),
    "svhn_cropped": (make_svhn_cropped, (32, 32, 3), 10),
}


class Published:
    """A small set `name` on the server, and what `prepare` needs to get it from there."""

    def __init__(self, server, name):
        make, shape, num_classes = SETS[name]
        rng = np.random.default_rng(0)
        self.splits = {split: draw_examples(rng, split, shape, num_classes) for split in SIZES}
        files, self.label_names = make(self.splits)
        # The originals as TFDS lists them, so that a URL of ours that is not theirs fails.
        originals = {url.rpartition("/")[2]: url for url in tfds.builder(name).url_infos}
        self.sources, self.checksums = {}, {}
        for filename, content in files.items():
            url = originals[filename]
            server.files["/" + filename] = content
            self.sources[url] = f"{server.url}/{filename}"
            self.checksums[url] = (len(content), hashlib.sha256(content).hexdigest())


def sorted_by_content(images, labels):
    order = sorted(range(len(images)), key=lambda i: images[i].tobytes())
    return np.asarray(images)[order], np.asarray(labels)[order]


def files_in(directory):
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_prepared_set_is_read_by_tfds(name, server, tmp_path, capfd):
    published = Published(server, name)
    data_dir = tmp_path / "tfds"
    downloads.prepare(name, data_dir, published.sources, published.checksums)
    assert capfd.readouterr() == ("", "")

    dataset = data.load(name, data_dir=data_dir)
    for split in ("train", "test"):
        read = getattr(dataset, f"{split}_images"), getattr(dataset, f"{split}_labels")
        for found, expected in zip(
            sorted_by_content(*read), sorted_by_content(*published.splits[split]), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    assert dataset.label_names == tuple(published.label_names)

    # The reader of TFDS alone, with every feature that its own preparation writes.
    builder = tfds.builder(name, data_dir=data_dir)
    records = list(builder.as_data_source("train"))
    stock = tfds.builder(name, data_dir=tmp_path / "nothing")
    assert set(records[0]) == set(stock.info.features)
    assert builder.info.full_name == stock.info.full_name
    images, labels = published.splits["train"]
    for record in records:
        (i,) = np.flatnonzero((images == record["image"]).all(axis=(1, 2, 3)))
        assert record["label"] == labels[i]
        if "id" in record:
            digits = 6 if name == "svhn_cropped" else 5
            assert record["id"] == f"train_{i:0{digits}d}".encode()
        if "coarse_label" in record:
            assert record["coarse_label"] == labels[i] // 5
    # Archives, and directories for them, are gone.
    assert [path.name for path in data_dir.iterdir()] == [name]
    assert [path.name for path in (data_dir / name).iterdir()] == [str(builder.version)]


def test_urls_are_those_of_tfds():
    for name, (base_url, filenames, _) in DATASETS.items():
        assert {base_url + filename for filename in filenames} == set(tfds.builder(name).url_infos)


def test_checksums_of_tfds_are_the_default(server, tmp_path):
    published = Published(server, "mnist")
    with pytest.raises(UserError, match="not the file that was expected"):
        downloads.prepare("mnist", tmp_path, published.sources)
    assert files_in(tmp_path) == []


@pytest.mark.slow
def test_load_downloads_on_request(server, tmp_path, monkeypatch):
    published = Published(server, "mnist")
    prepare = downloads.prepare
    monkeypatch.setattr(
        downloads,
        "prepare",
        lambda name, data_dir: prepare(name, data_dir, published.sources, published.checksums),
    )
    assert len(data.load("mnist", data_dir=tmp_path, download=True).train_images) == 20
    num_requests = len(server.requests)
    assert len(data.load("mnist", data_dir=tmp_path, download=True).train_images) == 20
    assert len(server.requests) == num_requests


@pytest.mark.parametrize("fault", ["altered", "shorter", "longer", "broken", "missing"])
def test_bad_download_leaves_no_set_and_can_be_repeated(fault, server, tmp_path):
    published = Published(server, "mnist")
    path = "/t10k-labels-idx1-ubyte.gz"  # the last of four
    content = server.files[path]
    if fault == "altered":
        server.files[path] = content[:-1] + bytes([content[-1] ^ 1])
    elif fault == "shorter":
        server.files[path] = content[:-1]
    elif fault == "longer":
        server.files[path] = content + b"x"
    elif fault == "broken":
        server.broken.add(path)
    else:
        del server.files[path]
    with pytest.raises(UserError, match=f"{path}.*\n.*--data_dir=DIR .* DIR/mnist/3.0.1"):
        downloads.prepare("mnist", tmp_path, published.sources, published.checksums)
    assert not (tmp_path / "mnist").exists()
    kept = {file.name for file in files_in(tmp_path)}
    assert kept == {source.rpartition("/")[2] for source in published.sources.values()} - {path[1:]}

    server.files[path] = content
    server.broken.clear()
    server.requests.clear()
    downloads.prepare("mnist", tmp_path, published.sources, published.checksums)
    assert server.requests == [path]  # the intact archives were kept
    assert len(data.load("mnist", data_dir=tmp_path).train_images) == 20


def test_server_that_sends_too_much_is_left(server, tmp_path, monkeypatch):
    published = Published(server, "mnist")
    server.files["/train-images-idx3-ubyte.gz"] = bytes(8 << 20)
    blocks = []
    read = fetch._read

    def count(*args):
        blocks.append(read(*args))
        return blocks[-1]

    monkeypatch.setattr(fetch, "_read", count)
    with pytest.raises(UserError, match="not the file that was expected"):
        downloads.prepare("mnist", tmp_path, published.sources, published.checksums)
    assert sum(map(len, blocks)) <= 2 << 20


def test_damaged_archive_is_fetched_again(server, tmp_path):
    published = Published(server, "mnist")
    archive = tmp_path / "downloads" / "mnist" / "train-images-idx3-ubyte.gz"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"damaged")
    downloads.prepare("mnist", tmp_path, published.sources, published.checksums)
    assert len(data.load("mnist", data_dir=tmp_path).train_images) == 20


def test_offline_is_told_at_once(tmp_path):
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    sources = {url: f"http://127.0.0.1:{port}/cifar-10-binary.tar.gz"}
    start = time.monotonic()
    with pytest.raises(UserError, match=f"127.0.0.1:{port}/.* cannot be reached.*\n.*--data_dir"):
        downloads.prepare("cifar10", tmp_path, sources)
    assert time.monotonic() - start < 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["name resolution", "server"])
def test_no_answer_is_not_waited_for(where, server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_CONNECT_SECONDS", 0.2)
    answer = threading.Event()
    if where == "server":
        # Listens, and so connects, but never answers.
        silent = socket.create_server(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    else:
        silent = contextlib.closing(io.BytesIO())
        base_url = "http://name.invalid"

        def wait(*args, **kwargs):
            answer.wait(10)
            raise socket.gaierror("no such name")

        monkeypatch.setattr(socket, "getaddrinfo", wait)
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    threads = set(threading.enumerate())
    with silent:
        with pytest.raises(UserError, match="cannot be reached: no answer in"):
            downloads.prepare("cifar10", tmp_path, {url: f"{base_url}/x"})
        answer.set()
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["download", "writing"])
def test_interrupt_leaves_no_set(moment, server, tmp_path, monkeypatch):
    published = Published(server, "mnist")

    def interrupt(*args):
        raise KeyboardInterrupt

    if moment == "download":
        monkeypatch.setattr(fetch, "_read", interrupt)
    else:
        monkeypatch.setattr(downloads.PIL.Image, "fromarray", interrupt)
    with pytest.raises(KeyboardInterrupt):
        downloads.prepare("mnist", tmp_path, published.sources, published.checksums)
    assert not (tmp_path / "mnist").exists()
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    downloads.prepare("mnist", tmp_path, published.sources, published.checksums)
    assert (tmp_path / "mnist").exists()


def test_unwritable_directory_is_named(server, tmp_path):
    published = Published(server, "mnist")
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(UserError, match=r"mnist cannot be written to .*\n.*--data_dir=DIR"):
        downloads.prepare("mnist", tmp_path / "file" / "x", published.sources, published.checksums)
    assert server.requests == []


def test_full_disk_is_told(server, tmp_path, monkeypatch):
    published = Published(server, "mnist")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads.os, "replace", fail)
    with pytest.raises(UserError, match=r"cannot be written to .*No space left"):
        downloads.prepare("mnist", tmp_path, published.sources, published.checksums)
    assert files_in(tmp_path) == []


def test_incomplete_set_is_not_overwritten(server, tmp_path):
    published = Published(server, "mnist")
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "something").write_text("of the user")
    with pytest.raises(UserError, match="in the way"):
        downloads.prepare("mnist", tmp_path, published.sources, published.checksums)
    assert [file.name for file in files_in(tmp_path)] == ["something"]


def test_only_known_sets_are_downloaded(tmp_path):
    with pytest.raises(UserError, match="beans is not among the sets to download: cifar10, "):
        downloads.prepare("beans", tmp_path)
