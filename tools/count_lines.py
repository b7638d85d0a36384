"""Count lines of code: neither blank nor comment nor docstring. With a limit, fail above it.

Usage: python tools/count_lines.py scfs [--limit 13500]
"""

import argparse
import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

NOT_CODE = (
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENDMARKER, tokenize.ENCODING),
)


def lines_of_code(source: str) -> int:
    """Lines that hold a token, without those of docstrings (any statement that is a string alone)."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def main() -> None:
    """Print the lines of each sub-package, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    for path in sorted(given.folder.rglob("*.py")):
        place = path.relative_to(given.folder).parts
        counts[place[0] if len(place) > 1 else "(root)"] += lines_of_code(path.read_text(encoding="utf-8"))
    for name, number in counts.most_common():
        print(f"{number:>7,}  {name}")
    total = sum(counts.values())
    print(f"{total:>7,}  {given.folder}")
    if given.limit is not None and total > given.limit:
        sys.exit(f"{given.folder}: {total:,} lines of code: at most {given.limit:,} (Makefile)")


if __name__ == "__main__":
    main()
