"""Where a step's time goes, by kind of operation: `python -m benchmarks.profile_step [ours|reference] [fp32|bf16]`."""

import re
import shlex
import sys

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import step
from scfs.runtime.cpu import keep_freed_memory

KINDS = {
    "convolution": r"conv(olution|2d)",
    "matrix product": r"::(mm|addmm|addmm_|bmm|baddbmm|linear|mkldnn_linear|_mkldnn_linear\w*)$",
    "BatchNorm": r"batch_norm",
    "sums of maps and of gradients": r"::add_?$",
    "activation and its gradient": r"relu|gelu|threshold|clamp_min",
    "pooling": r"pool|::mean$",
    "copies and conversions": r"copy_|clone|contiguous|::_to_copy|::cat$",
    "optimiser, clipping, average": r"_foreach|_fused|lerp",
    "softmax and logarithms": r"softmax|logsumexp|::exp|::log|xlogy|amax",
}


def shares(whose: str, precision: str) -> dict[str, float]:
    """Milliseconds of a step by kind, on one thread, each operation without those that it calls."""
    make = {"ours": step.ours, "reference": step.reference}[whose]
    call = make(step.settings(short=False), precision, torch.device("cpu"))
    call()
    with profile(activities=[ProfilerActivity.CPU]) as record:
        call()
    found = dict.fromkeys([*KINDS, "all else"], 0.0)
    for event in record.key_averages():
        kind = next((kind for kind, names in KINDS.items() if re.search(names, event.key)), "all else")
        found[kind] += event.self_cpu_time_total / 1000
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_memory()
    given = sys.argv[1:]
    whose, precision = [*given, *("ours", "bf16")[len(given) :]][:2]
    if len(given) > 2 or whose not in ("ours", "reference") or precision not in ("fp32", "bf16"):
        sys.exit(f"profile_step: {shlex.join(given)}: allowed: [ours|reference] [fp32|bf16]")
    table = shares(whose, precision)
    print(f"| {whose}, {precision} | ms | share |\n|---|---|---|")
    for kind, milliseconds in table.items():
        print(f"| {kind} | {milliseconds:.0f} | {milliseconds / sum(table.values()):.0%} |")
