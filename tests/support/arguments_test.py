"""Arguments that users give: what is wrong is told with the argument's name and its value."""

import pytest

from initjax.support.arguments import one_of
from initjax.support.errors import UserError
from initjax.training import Config


def test_one_of():
    assert one_of("b", ("a", "b"), "letter") == "b"
    assert one_of("", {"": 0, "a": 1}, "letter") == ""
    with pytest.raises(UserError, match=r"^letter='c' is not one of a, b\.$"):
        one_of("c", iter("ab"), "letter")
    with pytest.raises(UserError, match=r"^letter=\['a'\] is not one of a\.$"):
        one_of(["a"], {"": 0, "a": 1}, "letter")  # not hashable


def test_a_preset_that_is_none():
    with pytest.raises(UserError, match=r"^preset='x' is not one of resnet_cifar\.$"):
        Config.create(preset="x")
