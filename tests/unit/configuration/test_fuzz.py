"""Whatever stands in the file: it loads, or a ConfigurationError says why not."""

import json
import tomllib

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ledger.configuration import ConfigurationError, load_configuration
from tests.support.configuration import EVERY_KEY

GOOD = EVERY_KEY.replace("ALPHA_KEY", "A" * 43 + "=").replace("BRAVO_KEY", "E" + "A" * 42 + "=")
SAMPLE = tomllib.loads(GOOD)
TABLES = [key for key, value in SAMPLE.items() if isinstance(value, dict)]

scalars = st.one_of(
    st.booleans().map(lambda value: str(value).lower()),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.sampled_from(["1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "0x" + "f" * 5000]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(
        lambda text: json.dumps(text).replace("\x7f", "\\u007f")
    ),
    st.sampled_from(
        ['"2000-2999"', '"30*"', '"alpha"', '"https://[::1"', '"file:////\\u0000"', '"{data}"']
    ),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
)


@st.composite
def mutations(draw):
    """The sample with some of its values replaced, doubled or dropped."""
    lines = []
    for line in GOOD.split("\n"):
        key, equals, _ = line.partition(" = ")
        fate = draw(st.sampled_from(["keep"] * 12 + ["replace", "drop", "double"]))
        if equals and fate == "replace":
            lines.append(f"{key} = {draw(values)}")
        elif fate != "drop":
            lines.extend([line] * (2 if fate == "double" else 1))
    return "\n".join(lines)


@st.composite
def tables(draw):
    """Known names in places where nobody expects them."""
    header = st.sampled_from([*TABLES, "servers", "mailboxes", "servers.more", "x"])
    key = st.sampled_from(["server", "data", "id", "url", "extensions", "api", "store", "x"])
    lines = []
    for _ in range(draw(st.integers(0, 5))):
        name = draw(header)
        lines.append(draw(st.sampled_from([f"[{name}]", f"[[{name}]]", ""])))
        for each in draw(st.lists(key, max_size=4, unique=True)):
            lines.append(f"{each} = {draw(values)}")
    return "\n".join(lines)


def problems_of(path, content, **options):
    path.write_bytes(content)
    try:
        load_configuration(path, **options)
    except ConfigurationError as error:
        return error.problems
    return None


def check(path, content):
    for with_machine in (True, False):
        problems = problems_of(path, content, with_machine=with_machine)
        assert problems != []
        for problem in problems or ():
            assert "\n" not in problem
            assert "; " in problem


survive = settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def test_what_is_changed_here_was_good_before(tmp_path):
    assert problems_of(tmp_path / "vmledger.toml", GOOD.encode(), with_machine=False) is None


@survive
@given(mutations())
def test_changed_file_never_raises_anything_else(tmp_path, text):
    check(tmp_path / "vmledger.toml", text.encode())


@survive
@given(tables())
@example('server = "a"\nstore = [[]]')
@example('"a\\nb" = 1\n[store]\n"c\\nd".e = 2')
def test_misplaced_names_never_raise_anything_else(tmp_path, text):
    check(tmp_path / "vmledger.toml", text.encode())


@survive
@given(st.binary(max_size=200))
def test_any_bytes_never_raise_anything_else(tmp_path, content):
    check(tmp_path / "vmledger.toml", content)
