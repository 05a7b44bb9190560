"""Evaluation: robust accuracy, and what it costs to measure.

tables  figures and records without torch
trust   whether a robust accuracy is a reliable estimate
robust  the strongest evaluation of a model on given images
imported  what is found out about a network made by others
tasks   a module for each task: what runs its spec
live    one image, while somebody waits: attacks, proofs, gradient steps
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"robust.result": ["Evaluation"], "robust.robust": ["evaluate"]}
)
