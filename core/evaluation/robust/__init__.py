"""The strongest evaluation of a model on given images.

result           what an evaluation found, a row an image
robust           `evaluate`: certificates, the attacks, the verdicts, the reliability checks
schedule         the attacks in their order, and which images each is for
state            what is evaluated, and what is known of each image
cascade          one stage: which images it is for, and how it changes what is known of them
digging          how far a search goes: as long as it finds
left_to_find     what a longer search would still fool, estimated
edition          which searches an evaluation consists of, in a mark
towards          APGD towards several classes at once
first_look       what the first stages show of a model
gradient_masked  models that only look robust: random outputs, gradients that mislead
precision        whether searches compute in half precision
verdict          every verdict made again, and what is to be said of them all
with_checks      what the attacks of the reliability checks fooled, entered in the result
resume           what is kept of an evaluation that is stopped
in_parts         an evaluation whose images are judged in parts
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"result": ["Evaluation"], "robust": ["evaluate"]}
)
