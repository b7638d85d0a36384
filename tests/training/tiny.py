"""Settings of a run small enough to be repeated many times."""

TINY = {
    "dataset": "noise",
    "method": "scfs",
    "backbone": "narrow_resnet18",
    "epochs": 3,
    "batch": 6,
    "precision": "fp32",
    "views": {"global_size": 32, "local_size": 16, "local_number": 2},
    "head": {"hidden": 16, "bottleneck": 8, "prototypes": 24, "batch_norm": True},
    "search_head": {"width": 8, "hidden": 16, "output": 8},
    "loss": {"teacher_temperature_warmup": 2},
    "optimizer": {"lr": 2.0, "warmup_epochs": 1, "min_lr": 0.001},
}
