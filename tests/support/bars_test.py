"""Bars: on terminals alone, within 80 columns, gone at the end."""

import io
import sys

import pytest

from initjax.support.bars import bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "arguments, shown",
    [
        ((73_728, "weights", "layer1/kernel"), "73.7k/73.7k weights, 00:00 left"),
        ((3, "starts"), "3/3 starts, 00:00 left"),
        ((None, "B", "file.tar.gz"), "2.05k/? B"),
    ],
)
def test_a_terminal(arguments, shown, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    with bar(*arguments) as made:
        made.update(arguments[0] or 2048)
        made.refresh()
    lines = terminal.getvalue().split("\r")
    assert any(shown in line for line in lines)
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert not lines[-1].strip()


def test_elsewhere_and_where_it_is_asked_for_nothing(monkeypatch):
    for stream, silent in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        with bar(10, "images", silent=silent) as made:
            made.update(10)
        assert not stream.getvalue()
