"""How fast the product is, beside the authors' formulation: `python -m benchmarks` (docs/performance.md)."""

import os

# Before torch is imported: its profiler would say that it has begun, that there is no GPU, and what it does not know.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
