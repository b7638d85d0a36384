"""`python tests/fuzz`: change sound inputs of all kinds by chance, and hold scfs to taking or refusing each in one line."""

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE), str(HERE.parent / "data")]

import torch  # noqa: E402
from kinds import KINDS, make_sound  # noqa: E402
from tqdm import tqdm  # noqa: E402
from trial import SOUND, Outcome, attempt  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 1 if an input was neither accepted nor refused in one line."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=5000, help="over all kinds [5000]")
    parser.add_argument("--seed", type=int, default=0, help="of the first input; each has the next one [0]")
    parser.add_argument(
        "--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="KIND", help=", ".join(KINDS)
    )
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="scfs-fuzz-") as name:
        folder = Path(name)
        make_sound(folder / "sound")
        inputs = [
            (chosen.kinds[number % len(chosen.kinds)], chosen.seed + number, folder) for number in range(chosen.inputs)
        ]
        counts: dict[str, Counter[str]] = {kind: Counter() for kind in chosen.kinds}
        with ProcessPoolExecutor(chosen.processes, get_context("fork")) as pool:
            shown = tqdm(pool.map(_one, inputs), total=len(inputs), unit="input", mininterval=5, file=sys.stderr)
            for (kind, seed, _), outcome in zip(inputs, shown):
                counts[kind][outcome.verdict] += 1
                if outcome.verdict not in SOUND:
                    again = f"python tests/fuzz --kinds {kind} --inputs 1 --seed {seed}"
                    shown.write(f"{outcome.verdict}: {again}\n{outcome.said[-2000:]}", file=sys.stderr)
    return _report(counts)


def _one(given: tuple[str, int, Path]) -> Outcome:
    kind, seed, folder = given
    place = folder / f"{kind}-{seed}"
    try:
        return attempt(KINDS[kind], seed, folder / "sound", place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _report(counts: dict[str, Counter[str]]) -> int:
    verdicts = [*SOUND, *sorted({verdict for of_kind in counts.values() for verdict in of_kind} - set(SOUND))]
    width = max(len(word) for word in (*counts, *verdicts)) + 2
    print("".join(word.rjust(width) for word in ("", *verdicts)))
    for kind, of_kind in counts.items():
        print("".join(str(word).rjust(width) for word in (kind, *(of_kind[verdict] for verdict in verdicts))))
    faults = sum(number for of_kind in counts.values() for verdict, number in of_kind.items() if verdict not in SOUND)
    total = sum(of_kind.total() for of_kind in counts.values())
    print(f"{total} inputs, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
