"""What doctor finds in Postfix configurations as people have them."""

import pytest

from .sites import NAMES, MakeSite, codes


@pytest.mark.postfix
@pytest.mark.parametrize("name", NAMES)
def test_every_mistake_is_found_and_no_other(make_site: MakeSite, name: str) -> None:
    """In most of them mail passes that their administrator believes refused; nothing else tells him."""
    site = make_site(name)
    found = site.doctor()
    assert codes(found) == site.expected(), found
