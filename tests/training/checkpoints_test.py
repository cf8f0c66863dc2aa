import jax.numpy as jnp
import numpy as np
import pytest

from initjax.support.errors import UserError
from initjax.training.checkpoints import Checkpoints


def tree(value):
    return {"params": {"w": jnp.full((2, 3), value, jnp.float32)}, "step": jnp.int32(value)}


def restore(folder):
    """(tree, what was said)."""
    said = []
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore_latest(tree(0), said.append)
    return restored, said


@pytest.fixture
def folder(tmp_path):
    """Three saves."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tree(step))
    return tmp_path / "checkpoints"


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "checkpoints") == (None, [])


def test_the_newest_is_restored_and_two_are_kept(folder):
    restored, said = restore(folder)
    np.testing.assert_array_equal(restored["params"]["w"], np.full((2, 3), 3, np.float32))
    assert restored["step"] == 3
    assert restored["step"].dtype == np.int32
    assert said == []
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]


def test_a_step_is_saved_once(folder):
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(3, tree(7))
    assert restore(folder)[0]["step"] == 3


# The first failed read ends Orbax's event loop while TensorStore still answers others.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("damage", ["empty", "truncated", "missing"])
def test_one_that_cannot_be_read_is_set_aside(folder, damage):
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


def test_a_failed_write_is_told_in_two_lines(monkeypatch, folder):
    checkpoints = Checkpoints(folder)

    def fail(*args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, "save", fail)
        with pytest.raises(UserError, match="No space left on device\nWhat was saved") as error:
            checkpoints.save(4, tree(4))
    assert len(str(error.value).splitlines()) == 2
    with checkpoints:
        assert checkpoints.restore_latest(tree(0))["step"] == 3
