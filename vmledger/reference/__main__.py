"""Write all generated pages: what ``make docs`` runs. Needs the source tree, not an installation.

``--check`` writes nothing and fails when a page is not what its module writes now.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def pages() -> dict[Path, str]:
    """Give each generated page and the module that writes it."""
    listed: dict[str, str] = tomllib.loads((DOCS / "generated.toml").read_text())["pages"]
    return {DOCS / page: module for page, module in listed.items()}


def written_by(module: str) -> str:
    """Run a module and give what it prints; raises CalledProcessError when it fails."""
    command = [sys.executable, "-m", module]
    done = subprocess.run(  # noqa: S603 - module names come from our own file in the source tree
        command, cwd=DOCS.parent, stdout=subprocess.PIPE, check=True, text=True
    )
    return done.stdout


def main() -> int:
    """Write or check every page; 1 when a check found a page that is not current."""
    stale = []
    for page, module in pages().items():
        text = written_by(module)
        if page.exists() and page.read_text() == text:
            continue
        stale.append(page)
        if "--check" not in sys.argv[1:]:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text)
            print(f"wrote {page.relative_to(DOCS.parent)}")
    if "--check" in sys.argv[1:] and stale:
        names = ", ".join(str(page.relative_to(DOCS.parent)) for page in stale)
        print(f"not current, run 'make docs': {names}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
