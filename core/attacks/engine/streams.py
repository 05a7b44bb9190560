"""Random numbers that depend on the seed and the image alone, not on the batch, the machine or the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def _mixed(value: Tensor) -> Tensor:
    """The finaliser of SplitMix64 on int64, which wraps on CPU and CUDA alike: every bit depends on every bit."""
    value = (value ^ (value >> 30 & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    value = (value ^ (value >> 27 & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return value ^ (value >> 31 & 0x1FFFFFFFF)


@dataclass(frozen=True)
class Streams:
    """Random numbers an image, which depend on (seed, image index) alone.

    So a slice attacked alone, or on another machine or device, sees the numbers that it saw in the whole batch.
    A value, not a state: the same call gives the same numbers again, and `fork` gives independent streams.

    Attributes:
        key: (N,) int64, one key an image. Make them with `Streams.of`.
    """

    key: Tensor

    @classmethod
    def of(cls, seed: int, index: Int[Tensor, " n"]) -> Streams:
        """Streams of the images with these indices (N,) int64, on their device."""
        start = _mixed(torch.tensor(seed, dtype=torch.int64, device=index.device) + 0x1E3779B97F4A7C15)
        return cls(_mixed(start ^ _mixed(index.to(torch.int64) * -0x61C8864680B583EB)))

    @classmethod
    def of_images(cls, seed: int, x: Float[Tensor, "n c h w"]) -> Streams:
        """Streams that depend on (seed, pixels) alone: for an attack that is told no numbers of its images."""
        bits = x.detach().double().flatten(1).contiguous().view(torch.int64)
        place = torch.arange(1, bits.shape[1] + 1, device=x.device, dtype=torch.int64)
        return cls.of(seed, _mixed(bits ^ _mixed(place)).sum(1))

    def take(self, rows: Tensor | slice) -> Streams:
        """The streams of some of the images."""
        return Streams(self.key[rows])

    def fork(self, number: int | Tensor) -> Streams:
        """Independent streams; `number` tells forks apart: a restart, a target class; scalar or (N,)."""
        return Streams(_mixed(self.key ^ _mixed(torch.as_tensor(number, device=self.key.device) * 2 + 1)))

    def _bits(self, shape: tuple[int, ...], number: int) -> Tensor:
        count = torch.Size(shape).numel()
        step = torch.arange(1, count + 1, device=self.key.device, dtype=torch.int64) * -0x61C8864680B583EB
        return _mixed(self.fork(number).key[:, None] + step).view(-1, *shape)

    def uniform(self, low: float, high: float, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """(N, *shape) numbers in [low, high), 24 random bits each."""
        unit = (self._bits(shape, -1) >> 40 & 0xFFFFFF).to(dtype) * 2**-24
        return low + (high - low) * unit

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """(N, *shape) standard normal numbers, by Box and Muller on the CPU, so that devices agree to the last bit."""
        home = Streams(self.key.cpu())
        first, second = (home._bits(shape, number) >> 11 & (1 << 53) - 1 for number in (-2, -3))
        length = (-2 * ((first.double() + 1) * 2**-53).log()).sqrt()
        return (length * (second.double() * 2**-52 * torch.pi).cos()).to(self.key.device, dtype)


def default_streams(streams: Streams | None, x: Tensor) -> Streams:
    """The given streams, or those of seed 0 and the images' positions. Raises ValueError if their number is wrong."""
    if streams is None:
        return Streams.of(0, torch.arange(len(x), device=x.device))
    if len(streams.key) != len(x):
        raise ValueError(f"streams: expected {len(x)} of them, one an image, got {len(streams.key)}")
    return Streams(streams.key.to(x.device))
