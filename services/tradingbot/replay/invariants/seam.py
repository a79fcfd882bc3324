"""I12: no clock, id or randomness outside the seam (``runtime/clock.py``), read off the source.

Also a script for CI: ``python -m tradingbot.replay.invariants.seam [FOLDER]``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

FORBIDDEN = (
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "time.sleep",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "uuid.uuid1",
    "uuid.uuid4",
    "random",
    "numpy.random",
    "secrets",
    "os.urandom",
    "asyncio.sleep",
)
_MAY_USE = re.compile(
    r"\.(?:now|utcnow|today|sleep|urandom)\b|\buuid[14]\b|\brandom\b|\bsecrets\b"
    r"|\b(?:import|from) time\b|\bfrom (?:asyncio|datetime|os|uuid) import\b|\bas (?:time|asyncio|datetime|uuid|os)\b"
)
"""Most files hold none of this and need not be parsed."""
SEAM = "runtime/clock.py"
ALLOWED = {
    (SEAM, ""),
    # Passwords of the local bus: made once, for the operating system's secrets only, never part of a decision.
    ("local/server.py", "secrets"),
}


def package_folder() -> Path:
    """The folder of the ``tradingbot`` package."""
    return Path(__file__).parents[2]


def breaches(folder: Path) -> Iterator[str]:
    """Every use outside the seam, as ``file:line: name``."""
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder).as_posix()
        text = path.read_text(encoding="utf-8")
        for line, name in uses(ast.parse(text)) if _MAY_USE.search(text) else ():
            if (relative, "") not in ALLOWED and (relative, name.partition(".")[0]) not in ALLOWED:
                yield f"{relative}:{line}: {name} belongs to the seam, {SEAM}"


def uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of each forbidden thing that a module uses, whatever it calls it."""
    names = dict(_imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and (dotted := _dotted(node)) is not None:
            head, _, rest = dotted.partition(".")
            full = f"{names.get(head, head)}.{rest}".rstrip(".") if head in names else ""
            if full and _is_forbidden(full):
                yield node.lineno, full


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield (
                    (each.asname or each.name.partition(".")[0]),
                    (each.name if each.asname else each.name.partition(".")[0]),
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for each in node.names:
                yield each.asname or each.name, f"{node.module}.{each.name}"


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := _dotted(node.value)) is not None:
        return f"{head}.{node.attr}"
    return None


def _is_forbidden(name: str) -> bool:
    return any(
        name == each or (name.startswith(f"{each}.") and each in {"random", "secrets", "numpy.random"})
        for each in FORBIDDEN
    )


def main() -> int:
    """Print each breach; 1 when there are any."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else package_folder()
    found = list(breaches(folder))
    for each in found:
        sys.stdout.write(f"{each}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
