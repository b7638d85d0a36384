"""Pre-training: loop, schedules, optimiser, checkpoints."""
