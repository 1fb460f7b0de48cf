"""Draw the protocol's tables as Mermaid diagrams, for the documentation.

``python -m ledger.migration.diagram`` prints a page; the tables are the only source.

Source: claims 4, 5, 7 and 8.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
from collections.abc import Iterator
from enum import Enum

from ledger.migration.protocol import (
    HOME_TABLE,
    ORIGIN_TABLE,
    BatchRelation,
    HomeAction,
    OriginInput,
    OriginState,
)


def page() -> str:
    """Give the whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# How messages travel: the states of the protocol"
    yield ""
    yield "Made from the tables in `ledger/migration/protocol.py` by"
    yield "`python -m ledger.migration.diagram`; do not edit."
    yield ""
    yield "## The origin's side: one worker for each peer"
    yield ""
    yield "```mermaid"
    yield from _origin_diagram()
    yield "```"
    yield ""
    yield "A signal (inbound contact, wanted, new events) that is not drawn for a state changes"
    yield "nothing there."
    yield ""
    yield from _vocabulary("State", OriginState)
    yield from _vocabulary("Input", OriginInput)
    yield from _transitions()
    yield "## The home's side: what happens to a batch"
    yield ""
    yield "```mermaid"
    yield "flowchart LR"
    for relation, action in HOME_TABLE.items():
        yield f"    {relation.name}[{relation.value}] --> {action.name}([{action.value}])"
    yield "```"
    yield ""
    yield from _vocabulary("Relation to what is tracked", BatchRelation)
    yield from _vocabulary("What the home does", HomeAction)


def _origin_diagram() -> Iterator[str]:
    yield "stateDiagram-v2"
    yield f"    [*] --> {OriginState.CONTACTING.name}"
    for state in OriginState:
        yield f"    {state.name}: {state.value}"
    arrows: dict[tuple[OriginState, OriginState], list[str]] = {}
    for (state, given), step in ORIGIN_TABLE.items():
        arrows.setdefault((state, step.next), []).append(given.value)
    for (before, after), inputs in arrows.items():
        yield f"    {before.name} --> {after.name}: {', '.join(inputs)}"


def _transitions() -> Iterator[str]:
    yield "| in state | when | next state | on the way |"
    yield "|---|---|---|---|"
    for (state, given), step in ORIGIN_TABLE.items():
        actions = ", ".join(action.value for action in step.actions) or "(nothing)"
        yield f"| {state.value} | {given.value} | {step.next.value} | {actions} |"
    yield ""


def _vocabulary(title: str, kind: type[Enum]) -> Iterator[str]:
    meanings = _meanings(kind)
    yield f"| {title} | meaning |"
    yield "|---|---|"
    for member in kind:
        yield f"| {member.value} | {meanings[member.name]} |"
    yield ""


def _meanings(kind: type[Enum]) -> dict[str, str]:
    """Read the line under each member: Python does not keep it, its source does."""
    [found] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(found, ast.ClassDef)
    meanings: dict[str, str] = {}
    for member, line in itertools.pairwise(found.body):
        if isinstance(member, ast.Assign) and isinstance(line, ast.Expr):
            [target] = member.targets
            meanings[ast.unparse(target)] = " ".join(str(ast.literal_eval(line.value)).split())
    return meanings


if __name__ == "__main__":
    sys.stdout.write(page())
