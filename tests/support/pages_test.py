"""The frame of pages."""

from initjax.support.pages import escape, page


def test_a_page_is_escaped_and_has_two_themes():
    hostile = "<b>&\x1b[2J"
    text = page(hostile, "p { }", ["<p>a</p>"], {hostile: hostile})
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
    assert "<b>" not in text and "\x1b" not in text
    assert text.count(escape(hostile)) == 4  # title, heading, name and value
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert "<p>a</p>" in text and "http" not in text
