"""Tables as plain text, for a terminal."""

from collections.abc import Collection, Sequence


def listing(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of text, without numbers to compare: all columns stand to the left."""
    return "\n".join(line.rstrip() for line in aligned(rows, left=range(len(rows[0]))))


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Lay out rows of text in columns of equal width, two spaces apart.

    Args:
        rows: cells of each line; all lines have the same number of cells.
        left: columns whose cells stand to the left; those of the others stand to the right, as numbers do.

    Returns:
        A line for each row, all of equal width.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
