import gc
import json
import random
import shutil
import subprocess
import sys
import warnings

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers import TIMEOUT

from initjax.support.errors import UserError
from initjax.training.checkpoints import Checkpoints, digest_leaves, read_latest


def tree(value):
    return {"params": {"w": jnp.full((2, 3), value, jnp.float32)}, "step": jnp.int32(value)}


def restore(folder, settings=""):
    """(tree, what was said)."""
    said = []
    with Checkpoints(folder, settings) as checkpoints:
        restored = checkpoints.restore_latest(tree(0), said.append)
    return restored, said


@pytest.fixture
def folder(tmp_path):
    """Three saves."""
    return save(tmp_path / "checkpoints")


def save(folder, settings="", steps=(1, 2, 3)):
    with Checkpoints(folder, settings) as checkpoints:
        for step in steps:
            checkpoints.save(step, tree(step))
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "checkpoints") == (None, [])


def test_the_newest_is_restored_and_two_are_kept(folder):
    restored, said = restore(folder)
    np.testing.assert_array_equal(restored["params"]["w"], np.full((2, 3), 3, np.float32))
    assert restored["step"] == 3
    assert restored["step"].dtype == np.int32
    assert said == []
    assert names(folder) == ["2", "3"]


@pytest.mark.slow
def test_a_step_is_saved_once(folder):
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(3, tree(7))
    assert restore(folder)[0]["step"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["empty", "truncated", "missing"])
def test_one_that_cannot_be_read_is_set_aside(folder, damage, capfd):
    """With a word, and no traceback of a library's threads beside it."""
    if damage == "empty":
        (folder / "4").mkdir()
    for file in [path for path in (folder / "3").rglob("*") if path.is_file()]:
        if damage == "truncated":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        elif damage == "missing" and file.name.startswith("manifest"):
            file.unlink()
    restored, said = restore(folder)
    bad, good = (4, 3) if damage == "empty" else (3, 2)
    assert restored["step"] == good
    assert len(said) == 1
    assert f"step {bad} cannot be read" in said[0]
    assert [path.name for path in folder.glob("unreadable-*")] == [said[0].split()[-1]]
    # The number is free again.
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(bad, tree(9))
    assert restore(folder)[0]["step"] == 9
    gc.collect()
    assert capfd.readouterr().err == ""


def found(folder, settings=""):
    """(the step that is restored, what was said)."""
    restored, said = restore(folder, settings)
    assert (restored["params"]["w"] == restored["step"]).all()
    return int(restored["step"]), said


def files_of(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@pytest.mark.slow
def test_a_flipped_bit_is_never_used_in_silence(folder):
    """What is restored is what was saved at that step, and a word is said where it is an older one.

    Of 400 flips in a checkpoint of a ResNet-32, 281 were told and 119 did no harm.
    """
    draw = random.Random(0)
    files = files_of(folder / "3")
    whole = {path: path.read_bytes() for path in files}
    sizes = [len(content) for content in whole.values()]
    fell_back = 0
    for _ in range(24):
        (path,) = draw.choices(files, sizes)
        flipped = bytearray(whole[path])
        flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        step, said = found(folder)
        assert step == (2 if said else 3)
        fell_back += bool(said)
        for aside in folder.glob("unreadable-*"):
            aside.rename(folder / "3")
        path.write_bytes(whole[path])
    assert fell_back  # .38 of 360 flips of this one were told; of 24 none would be 1e-5


def test_a_digest_is_of_dtype_shape_and_every_value():
    x = np.arange(6, dtype=np.float32)
    trees = [x, x.reshape(2, 3), x.view(np.int32), np.float64(x), x + np.eye(6, dtype="f4")[5]]
    assert len({digest_leaves({"x": value})["x"] for value in trees}) == 5
    assert digest_leaves((x, {"y": np.ones(2)})) == digest_leaves([x, {"y": np.ones(2)}])
    assert digest_leaves({"x": x.reshape(2, 3).T}) == digest_leaves({"x": x.reshape(2, 3).T.copy()})


@pytest.mark.slow
def test_another_runs_checkpoint_is_set_aside(folder, tmp_path):
    """Its weights have the same shapes; it is not deleted."""
    other = save(tmp_path / "other", "another run", (7,))
    shutil.copytree(other / "7", folder / "7")
    with pytest.warns(UserWarning, match="step 3 is used: that of step 7 is of a run with other"):
        assert read_latest(folder, "")["step"] == 3
    assert names(folder) == ["2", "3", "7"]
    step, said = found(folder)
    assert step == 3
    assert len(said) == 1 and "step 7 is of a run with other settings; it is now" in said[0]
    assert len(files_of(next(folder.glob("unreadable-7-*")))) == len(files_of(other / "7"))


@pytest.mark.slow
def test_an_older_one_of_another_run_is_not_deleted(folder, tmp_path):
    (save(tmp_path / "other", "another run", (1,)) / "1").rename(folder / "1")
    save(folder, steps=(8, 9))
    assert names(folder) == ["1", "8", "9"]


def test_a_renamed_one_is_set_aside(folder):
    """And the step that it had claimed can be saved."""
    (folder / "2").rename(folder / "20")
    step, said = found(folder)
    assert step == 3
    assert len(said) == 1 and "step 20 was saved as that of step 2; it is now unread" in said[0]
    save(folder, steps=(20,))
    assert found(folder) == (20, [])


@pytest.mark.slow
def test_links(folder, tmp_path):
    """To a good one it is as good; what it leads to is neither renamed nor deleted."""
    apart = tmp_path / "apart"
    (folder / "2").rename(apart)
    (folder / "2").symlink_to(apart)
    before = len(files_of(apart))
    (folder / "3").rename(tmp_path / "3")
    assert found(folder) == (2, [])
    (folder / "4").symlink_to(apart)
    assert "step 4 was saved as that of step 2" in restore(folder)[1][0]
    save(folder, steps=(5, 6))
    assert names(folder)[:2] == ["5", "6"] and len(files_of(apart)) == before


def test_nothing_is_renamed_in_a_linked_folder(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert found(tmp_path / "link") == (3, [])
    with pytest.raises(UserError, match=r"is a link, and there .* step 3 is of a run with other"):
        restore(tmp_path / "link", "another run")
    assert names(folder) == ["2", "3"]


@pytest.mark.slow
def test_one_without_digests_is_used_and_that_is_said(folder):
    """As earlier versions wrote them, by a manager of Orbax."""
    shutil.rmtree(folder)
    with ocp.CheckpointManager(folder) as manager:
        manager.save(3, args=ocp.args.StandardSave({**tree(3), "step": np.array(3, np.int32)}))
    step, said = found(folder)
    assert step == 3
    assert said == ["the checkpoint of step 3 is from a version without digests: not verified"]
    save(folder, steps=(4, 5, 6))
    assert names(folder) == ["3", "5", "6"]  # whose it is, nobody knows
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_latest(folder)["step"] == 6


def test_digests_that_are_no_digests(folder):
    path = folder / "3" / "digests" / "metadata"
    for content in ("", "[]", "3", "[" * 10**5, json.dumps({"step": 3}), "\udcff"):
        path.write_text(content, errors="surrogateescape")
        with pytest.warns(UserWarning, match="that of step 3 cannot be read: its digests"):
            assert read_latest(folder)["step"] == 2


def test_a_failed_write_is_told_in_two_lines(monkeypatch, folder):
    checkpoints = Checkpoints(folder)

    def fail(*args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.AsyncCheckpointer, "save", fail)
        with pytest.raises(UserError, match="No space left on device\nWhat was saved") as error:
            checkpoints.save(4, tree(4))
    assert len(str(error.value).splitlines()) == 2
    with checkpoints:
        assert checkpoints.restore_latest(tree(0))["step"] == 3


_FULL = """
import pathlib, resource, sys
import numpy as np
from initjax.support import command
from initjax.training.checkpoints import Checkpoints

def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    draw = np.random.default_rng(0).standard_normal
    with Checkpoints(pathlib.Path(sys.argv[1])) as checkpoints:
        for step, size in ((1, 9), (2, 9), (3, 9999), (4, 9)):
            tree = {str(i): draw(size, np.float32) for i in range(20)}
            checkpoints.save(step, tree | {"step": np.int32(step)})

command.run(main)
"""


@pytest.mark.slow
def test_a_full_disk_is_told_in_two_lines_and_takes_nothing(tmp_path):
    """Written in the background, of many arrays, of which each fails."""
    run = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)],
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    first, second = run.stderr.splitlines()
    assert first == f"error: No checkpoint can be written in {tmp_path}: File too large"
    assert second == "What was saved before is kept; the same command goes on from it."
    assert run.returncode == 1
    assert read_latest(tmp_path)["step"] == 2
