"""A side stream: work that a GPU may do at the same time as what is queued after it. A CPU has no streams."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class SideStream:
    """A second stream of a GPU, for one piece of work at a time: `run` queues it, `join` waits for it."""

    def __init__(self, device: torch.device) -> None:
        self._streams = torch.get_device_module(device)
        self._own = self._streams.Stream()

    @contextmanager
    def run(self) -> Iterator[None]:
        """Run the block on the side stream, after everything queued so far; keep its inputs alive until `join`."""
        self._own.wait_stream(self._streams.current_stream())
        with self._streams.stream(self._own):
            yield

    def join(self, results: Iterable[Tensor]) -> None:
        """Let everything queued from now on wait for the side stream, and use the tensors that it computed."""
        current = self._streams.current_stream()
        current.wait_stream(self._own)
        for tensor in results:
            if tensor.device.type != "cpu":
                tensor.record_stream(current)  # otherwise the side stream could reuse its memory while it is read
