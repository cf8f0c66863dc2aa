"""Arguments that users give: what is wrong is told with the argument's name and its value."""

import pytest

from initjax.support.arguments import count, one_of, positive
from initjax.support.errors import UserError
from initjax.training import Config


def test_one_of():
    assert one_of("b", ("a", "b"), "letter") == "b"
    assert one_of("", {"": 0, "a": 1}, "letter") == ""
    with pytest.raises(UserError, match=r"^letter='c' is not one of a, b\.$"):
        one_of("c", iter("ab"), "letter")
    with pytest.raises(UserError, match=r"^letter=\['a'\] is not one of a\.$"):
        one_of(["a"], {"": 0, "a": 1}, "letter")  # not hashable


@pytest.mark.parametrize("digits", [400, 5000])
def test_numbers_of_many_digits(digits):
    """Python writes none of more than 4,300, and makes no float of more than 309."""
    number = 10**digits
    for call in (
        lambda: positive(number, "alpha"),
        lambda: positive(-number, "alpha"),
        lambda: count(number, "alpha"),
        lambda: count(-number, "alpha"),
        lambda: Config(seed=number),
        lambda: Config(steps=number),
        lambda: Config(init=f"nspl(alpha={'1' * digits})"),
        lambda: Config(model=f"mlp(width={'1' * digits})"),
        lambda: Config(refine=f"lsuv(max_iterations={'1' * digits})"),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert len(str(error.value)) < 700


def test_a_count_is_an_int32():
    assert count(2**31 - 1, "n") == 2**31 - 1
    with pytest.raises(UserError, match=r"^n=2147483648 must be at most 2147483647\.$"):
        count(2**31, "n")
    with pytest.raises(UserError, match="max_iterations=10000000000 must be at most"):
        Config(refine="lsuv(max_iterations=10000000000)")


def test_a_message_keeps_the_ends_of_what_is_long():
    error = UserError(f"--init={'x' * 10**5} is none.\nTry he_normal.")
    first, second = str(error).splitlines()
    assert len(first) < 700 and first.startswith("--init=xxx") and first.endswith("x is none.")
    assert second == "Try he_normal."
    assert str(UserError("a" * 2000)) == "a" * 2000


def test_epochs_beyond_counting():
    for epochs in (2.0**31, 1e300, 1.7e308):
        config = Config(epochs=epochs, eval_every=1.7e308)
        with pytest.raises(UserError, match=r"--epochs=.* steps, which .* days\.\n"):
            config.total_steps(11)
        assert config.evaluation_interval(11) == 2**31
    assert Config(epochs=0.01).total_steps(11) == 1
    assert Config(steps=5, eval_every=0.2).evaluation_steps(10, 5) == [2, 4, 5]
    assert Config(steps=5, eval_every=0.2).evaluation_steps(10, 3) == [2]


def test_a_preset_that_is_none():
    with pytest.raises(
        UserError, match=r"^preset='x' is not one of resnet_cifar, resnet50_imagenet\.$"
    ):
        Config.create(preset="x")
