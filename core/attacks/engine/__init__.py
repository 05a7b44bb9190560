"""What every attack is built on.

geometry   distances, exact projections onto balls and the box, the exact solvers of linear models
losses     what an attack minimises, and what counts as fooled
masks      models that let an attack change some pixels only
bears      what a model bears (layouts, changes in place, precision, gradients), and one that bears it all
find_out   two images through a model: what it bears
fitted     a model made to bear what attacks do with it
verdict    successes right on the boundary: looked at closely, or moved over
in_half    searches in half precision, verdicts in float32
engine     frozen models, forward passes, gradients of the images
streams    random numbers that depend on the seed and the image alone
checks     what attacks refuse: inputs, budgets, counts
result     what an attack returns, verified
eight_bit  images that survive being saved in 8 bits a feature
room       how many images at once: more where there is room, fewer where the memory ran out
door       the decorator of every attack: tensors and model made fit, results in the images' dtype
stand_ins  the mean over a random model's draws; gradients straight through steps that stop them
steps      random points of a ball, steps inside ball and box
adam       one Adam step, and a state for a batch whose rows can be dropped
active     the images under attack, so many at once; what every attack can be given
lowest     what the attacks inside a given budget share: best attempt so far, cost
smallest   what the attacks on the smallest perturbation share: best so far, bisection
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "engine": ["frozen", "gradient_step", "predict"],
        "result": ["AttackResult"],
        "streams": ["Streams"],
        "losses": ["Goal", "margin", "predicted"],
        "masks": ["Masked"],
    },
)
