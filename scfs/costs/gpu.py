"""The GPU that is planned with, and how fast a training is on it."""

GPU = "H100 SXM"
PEAK = 989e12
"""Its dense bf16 operations per second, as its maker states them."""
SHARE = 0.1
"""unsourced: of the peak that is planned with: 700 images/s of the paper's SCFS, where 500 to 1000 are expected."""
