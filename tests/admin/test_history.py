"""What narrows lists: a text, or a glob, whoever typed it and whatever it is held against."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.admin.history import name_filter


@given(glob=st.text("ab.*?", max_size=12), name=st.text("ab.\n", max_size=12))
def test_glob_is_what_everybody_knows_by_it(glob, name):
    """A star is any characters, a question mark is one, and nothing else is special."""
    expected = fnmatchcase(name, glob) if {"*", "?"} & {*glob} else glob in name
    assert name_filter(glob)(name) is expected


@pytest.mark.parametrize("glob", ["*a" * 900 + "b", "a*?" * 600 + "b", "*" * 2000 + "b"])
def test_glob_of_many_stars_comes_to_an_end(glob):
    """Who types it on a page would stop the pages for everybody, and a sender chooses what it is held against."""
    assert not name_filter(glob)("a" * 2000)
