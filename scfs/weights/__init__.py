"""Files of weights: ours, and those of other libraries."""
