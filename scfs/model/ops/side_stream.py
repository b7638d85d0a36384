"""Work that a GPU may do beside what is started after it, on a stream of its own; a CPU does one after the other."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Aside:
    """One piece of work at a time: `work` starts it, `join` waits for it."""

    def __init__(self, device: torch.device) -> None:
        self._streams = torch.get_device_module(device)
        self._own = self._streams.Stream()

    @contextmanager
    def work(self) -> Iterator[None]:
        """What is started within begins after all that was started before; its inputs are to be held until `join`."""
        self._own.wait_stream(self._streams.current_stream())
        with self._streams.stream(self._own):
            yield

    def join(self, made: Iterable[Tensor]) -> None:
        """What is started from now on begins after the work, and may use the tensors that it made."""
        current = self._streams.current_stream()
        current.wait_stream(self._own)
        for tensor in made:
            if tensor.device.type != "cpu":
                tensor.record_stream(current)  # or their memory would be the work's again while it is still read
