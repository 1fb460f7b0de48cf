"""Whoever follows a link arrives."""

import pytest

from tests.support.markdown import PAGES, ROOT, anchors, links, name_of

ANYWHERE_ELSE = ("http://", "https://", "mailto:")
LINKS = [
    (page, target)
    for page in PAGES
    for target in links(page)
    if not target.startswith(ANYWHERE_ELSE)
]


@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda value: str(value).rpartition("/")[2])
def test_link_leads_to_a_page_and_a_heading_that_exist(page, target):
    path, _, anchor = target.partition("#")
    goal = (page.parent / path).resolve() if path else page
    assert goal.is_relative_to(ROOT), f"{name_of(page)} links out of the project: {target}"
    assert goal.exists(), f"{name_of(page)} links to {target}"
    if anchor:
        assert anchor in anchors(goal), f"{name_of(page)} links to {target}"


def test_every_page_of_the_documentation_can_be_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = [t.partition("#")[0] for t in links(page) if not t.startswith(ANYWHERE_ELSE)]
        waiting += [(page.parent / target).resolve() for target in targets if target]
    assert {name_of(page) for page in PAGES} - {name_of(page) for page in reached} == set()
