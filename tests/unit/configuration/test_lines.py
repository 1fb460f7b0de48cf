"""Finding the line of a value in a TOML file."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.configuration.lines import LineFinder


def find_line(text, path):
    return LineFinder(text).find(path)


TEXT = '''\
# a comment
server = "alpha"  # [not.a.header]

[store]
events = """
[servers]
"""
blobs = "x"

[[servers]]
id = "a"
extensions = [
  "1",

  "2", "3",  # "4"
  "5",
]

  [[ "servers" ]]
id = "b"
extensions = []
tls.key = "k"

[servers.more]
deep = { x = 1, y = 2 }

[a.b.c]
d = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("server",), 2),
        (("store",), 4),
        (("store", "events"), 5),
        (("store", "blobs"), 8),
        (("store", "absent"), 4),
        (("servers", 0), 10),
        (("servers", 0, "id"), 11),
        (("servers", 0, "extensions"), 12),
        (("servers", 0, "extensions", 0), 13),
        (("servers", 0, "extensions", 1), 15),
        (("servers", 0, "extensions", 2), 15),
        (("servers", 0, "extensions", 3), 16),
        (("servers", 1), 19),
        (("servers", 1, "id"), 20),
        (("servers", 1, "tls", "key"), 22),
        (("servers", 1, "more", "deep"), 25),
        (("servers", 1, "more", "deep", "x"), 25),
        (("a", "b", "c", "d"), 28),
        (("absent",), None),
        ((), None),
    ],
)
def test_line_of_a_value(path, line):
    tomllib.loads(TEXT)
    assert find_line(TEXT, path) == line


def test_text_that_is_not_toml_has_no_lines():
    assert find_line("server = ", ("server",)) is None


@given(st.lists(st.sampled_from(["", "# x", "[t]", "k = [", "1,", "]", 'x = """', '"""', "y=1"])))
def test_any_text_is_survived(lines):
    line = find_line("\n".join(lines), ("t", "k", 0))
    assert line is None or 1 <= line <= len(lines)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), st.integers(), min_size=1))
def test_line_holds_the_key(table):
    lines = [f"{key} = {value}" for key, value in table.items()]
    for number, key in enumerate(table, 1):
        assert find_line("\n".join(lines), (key,)) == number


def test_long_list_with_comments_has_all_its_lines():
    text = "\n".join(["x = [", *(f'  "{n}",  # number {n}' for n in range(1500)), "]"])
    finder = LineFinder(text)
    assert [finder.find(("x", n)) for n in range(1500)] == list(range(2, 1502))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('x = ["a", "b"]', [1, 1]),
        ('x = [ "a",\n"b" ]', [1, 2]),
        ('x = [\n"a"]', [2]),
        ("x = [[1,\n2],\n[3]]", [1, 3]),
        ('x = [\n{a = 1},\n"""\n]""",\n"#,"\n]', [2, 3, 5]),
        ('k = "x, # y"\nx = [\n1]', [3]),
    ],
)
def test_elements_have_the_line_where_they_begin_or_that_of_their_key(text, lines):
    count = len(tomllib.loads(text)["x"])
    assert [find_line(text, ("x", n)) for n in range(count)] == lines
