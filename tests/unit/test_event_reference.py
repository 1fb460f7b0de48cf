"""The reference of the events leaves nothing out."""

import re

import pytest

from ledger.events import EVENT_CLASSES, CallStatus
from vmledger.reference.events import page

SECTIONS = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", page(), re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("topic", EVENT_CLASSES)
def test_event_has_a_section_with_its_own_fields(topic):
    own = EVENT_CLASSES[topic].__annotations__
    assert own
    assert re.findall(r"^\| `(\w+)` \|", SECTIONS[topic], re.MULTILINE) == list(own)


def test_the_string_under_a_field_becomes_its_meaning():
    assert "| Number of received bytes. |" in SECTIONS["AudioFacts"]


def test_enumeration_lists_its_values_as_they_are_stored():
    values = re.findall(r"^\| `([\w-]+)` \|", SECTIONS["CallStatus"], re.MULTILINE)
    assert values == [status.value for status in CallStatus]


def test_type_that_has_its_own_section_is_a_link_to_it():
    linked = re.findall(r"\[\w+\]\(#(\w+)\)", page())
    assert linked
    assert set(linked) <= {name.lower() for name in SECTIONS}
