"""Checkpoints on the host: pinned buffers that are made once and used again, copies beside the
computation."""

from __future__ import annotations

import collections
from typing import Any

import torch
from torch import nn

# Below this a copy costs more than it frees.
SMALLEST_BYTES = 1024


def worth_moving(leaf: Any) -> bool:
    """Hidden states are; masks and tables that every layer shares are not."""
    return (
        isinstance(leaf, torch.Tensor)
        and not isinstance(leaf, nn.Parameter)
        and leaf.device.type == "cuda"
        and leaf.is_floating_point()
        and leaf.requires_grad
        and leaf.nbytes >= SMALLEST_BYTES
    )


class HostPool:
    """Pinned buffers by shape and type, and the stream that copies to them and back."""

    def __init__(self) -> None:
        self._idle: dict[tuple[Any, ...], list[torch.Tensor]] = collections.defaultdict(list)
        self._stream: torch.cuda.Stream | None = None
        self.bytes = 0

    def stream(self) -> torch.cuda.Stream:
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        return self._stream

    def take(self, like: torch.Tensor) -> torch.Tensor:
        idle = self._idle[self._key(like)]
        if idle:
            return idle.pop()
        self.bytes += like.nbytes
        return torch.empty(like.shape, dtype=like.dtype, device="cpu", pin_memory=True)

    def give_back(self, buffer: torch.Tensor) -> None:
        self._idle[self._key(buffer)].append(buffer)

    @staticmethod
    def _key(tensor: torch.Tensor) -> tuple[Any, ...]:
        return (tuple(tensor.shape), tensor.dtype)


class HostCopy:
    """A tensor that lies on the host until it is fetched."""

    def __init__(self, tensor: torch.Tensor, pool: HostPool) -> None:
        self._pool = pool
        self._device = tensor.device
        self._requires_grad = tensor.requires_grad
        self._buffer = pool.take(tensor)
        stream = pool.stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.no_grad():
            self._buffer.copy_(tensor, non_blocking=True)
        # The allocator gives the bytes out again only once the copy has read them.
        tensor.record_stream(stream)

    def fetch(self) -> torch.Tensor:
        """The tensor on its device again, as a leaf."""
        stream = self._pool.stream()
        result = torch.empty(self._buffer.shape, dtype=self._buffer.dtype, device=self._device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.no_grad():
            result.copy_(self._buffer, non_blocking=True)
        torch.cuda.current_stream().wait_stream(stream)
        return result.requires_grad_(self._requires_grad)

    def __del__(self) -> None:
        # Later copies into the buffer run on the same stream, behind this one's.
        self._pool.give_back(self._buffer)
