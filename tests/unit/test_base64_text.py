"""Each value has one text."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.base64_text import decode_base64


@given(st.binary())
def test_written_value_is_read(data):
    assert decode_base64(base64.b64encode(data).decode()) == data


@pytest.mark.parametrize("text", ["QR==", "QUJ=", "QQ", "Q Q=", "QQ==\n", "QQ==QQ==", "é", "!!!!"])
def test_any_other_text_is_refused(text):
    with pytest.raises(ValueError, match="base64"):
        decode_base64(text)
