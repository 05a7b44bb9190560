"""Proof: what no perturbation inside a ball can do.

bounds      intervals through a network, and the margins that they prove
linear      linear models solved exactly: smallest perturbation, largest damage, k(eps), in every norm, with the box
"""

from core.certification.bounds import Unbounded, interval, margin_bounds, proven

__all__ = ["Unbounded", "interval", "margin_bounds", "proven"]
