"""One line an action, for people and for machines."""

import json
import logging

from vmledger.logs import JsonFormatter, TextFormatter


def record(message, *args):
    return logging.LogRecord("vmledger.test", logging.INFO, __file__, 1, message, args, None)


def test_a_text_line_stays_one_line_whatever_it_quotes():
    line = TextFormatter().format(record("action=told what=%s", "a\nlevel=fake\x1b[2J"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert "action=told" in line


def test_a_json_line_holds_the_pairs_of_its_message():
    line = JsonFormatter().format(record('action=told path="/a b" status=%d', 200))
    fields = json.loads(line)
    assert (fields["action"], fields["path"], fields["status"]) == ("told", "/a b", "200")
    assert fields["level"] == "info"


def test_a_quoted_pair_cannot_replace_what_the_server_says_itself():
    fields = json.loads(JsonFormatter().format(record("action=told x=%s", "1 level=fake")))
    assert fields["level"] == "info"
