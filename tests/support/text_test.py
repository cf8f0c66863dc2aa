from initjax.support.text import printable


def test_what_a_terminal_obeys_is_escaped():
    assert printable("\x1b]0;title\x07\x9b2J\u202e\ud800\n") == (
        r"\x1b]0;title\x07\x9b2J\u202e\ud800\n"
    )
    assert printable("a\nb\r", keep="\n") == "a\nb\\r"


def test_the_rest_is_kept():
    for text in ("", "layer1.0/kernel", "größe 層 🙂", "back\\slash $x$"):
        assert printable(text) == text
