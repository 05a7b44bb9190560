"""The error that stops a run whose certificates are wrong. Imports no torch."""

from __future__ import annotations


class FalseProof(RuntimeError):
    """An image contradicts its certificate: a bound is wrong, no other can be trusted, and the run must stop.

    Attributes:
        index: of the image.
    """

    def __init__(self, index: int, message: str) -> None:
        """`message` says what was proven and what the model does."""
        super().__init__(
            f"image {index}: {message}. The certificate is wrong, so no other one of this run can be trusted"
        )
        self.index = index
