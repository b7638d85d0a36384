"""A logger: a line of text for each point."""

from scfs.training.loggers import LOGGERS


@LOGGERS.add("lines")
class Lines:
    def __init__(self, folder, first_step):
        self.file = (folder / "lines.txt").open("a")
        self.file.write(f"from {first_step}\n")

    def log(self, step, values):
        self.file.write(f"{step} {values['loss']!r} {values['lr']!r}\n")

    def close(self):
        self.file.close()
