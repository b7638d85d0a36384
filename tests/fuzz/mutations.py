"""Changes of sound content: bytes, lines, words of a text, values of a JSON tree."""

import copy
import struct
from random import Random
from typing import Any

ODD_WORDS = (
    *("null", "~", "true", "no", "nan", ".inf", "-1", "0", "1e400", "9" * 30, "0x10", "1_000", "12:30", "2020-01-01"),
    *(
        "''",
        "[]",
        "{}",
        "[[[[]]]]",
        "&a [*a]",
        "*b",
        "!!python/object/apply:os.system ['touch executed']",
        "!!binary a",
    ),
    *(
        "../../x",
        "/etc/passwd",
        "a" * 300,
        "{x}",
        "a b",
        "\u202e",
        "\ufeff",
        "é",
        "\x00",
        "\x1b[31m",
        "$(touch executed)",
    ),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *(
        "",
        " ",
        "1",
        "1.0",
        "nan",
        "x" * 300,
        "../x",
        "/etc/passwd",
        "\x00",
        "\ud800",
        "é",
        [],
        {},
        [[]],
        [None],
        {"a": 1},
    ),
)


def changed_bytes(random: Random, content: bytes) -> bytes:
    """Flip bits, overwrite numbers, cut, repeat or insert: one to four times."""
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(data) or 1)
        span = random.choice((1, 4, 16, 256, len(data) // 3 + 1))
        match random.randrange(7):
            case 0 | 1:
                if data:
                    data[place % len(data)] ^= 1 << random.randrange(8)
            case 2:
                number = random.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 65535, 1 << 20))
                data[place : place + 4] = struct.pack(random.choice("<>") + "I", number)
            case 3:
                del data[place:]
            case 4:
                del data[place : place + span]
            case 5:
                data[place:place] = data[place : place + span]
            case _:
                data[place:place] = random.randbytes(min(span, 256))
    return bytes(data)


def changed_text(random: Random, text: str, separators: str = " ,:\n{}[]\"'<>/=") -> bytes:
    """Replace, delete or repeat words and lines, or change bytes."""
    if random.random() < 0.15:
        return changed_bytes(random, text.encode())
    for _ in range(random.randint(1, 2)):
        lines = text.split("\n")
        place = random.randrange(len(lines))
        match random.randrange(6):
            case 0:
                del lines[place]
            case 1:
                lines.insert(random.randrange(len(lines)), lines[place])
            case 2:
                lines[place] = " " * random.randint(0, 6) + lines[place].lstrip()
            case _:
                lines[place] = _changed_words(random, lines[place], separators)
        text = "\n".join(lines)
    return text.encode(errors="surrogatepass")


def _changed_words(random: Random, line: str, separators: str) -> str:
    starts = [place for place in range(len(line)) if line[place] not in separators]
    if not starts:
        return line + random.choice(ODD_WORDS)
    first = last = random.choice(starts)
    while last < len(line) and line[last] not in separators:
        last += 1
    return line[:first] + random.choice((*ODD_WORDS, "", line[first:last] * 2)) + line[last:]


def changed_tree(random: Random, tree: Any) -> Any:
    """Replace, delete or repeat values of a JSON tree, or take those of another place."""
    tree = copy.deepcopy(tree)
    for _ in range(random.randint(1, 2)):
        places = list(_places(tree))
        if not places:
            return random.choice(ODD_VALUES)
        holder, key = random.choice(places)
        match random.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            case 1:
                holder[f"{key} "] = holder.pop(key)
            case 2:
                other, its_key = random.choice(places)
                holder[key] = copy.deepcopy(other[its_key])
            case 3 if isinstance(holder[key], int | float):
                holder[key] = random.choice((-holder[key], float(holder[key]), holder[key] + 0.5, str(holder[key])))
            case _:
                holder[key] = random.choice(ODD_VALUES)
    return tree


def _places(tree: Any) -> Any:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
