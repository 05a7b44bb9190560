"""The strongest evaluation of a model on given images.

result     what an evaluation found, a row an image
robust     `evaluate`: certificates, the attacks, and every verdict made again
cascade    the attacks that it is made of, and which images each is for
shattered  models that only look robust: random answers, gradients that mislead
going_on   what is kept of an evaluation that is stopped
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"result": ["Evaluation"], "robust": ["evaluate"]}
)
