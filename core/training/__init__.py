"""Training: one loop, and a recipe is how a batch's loss is made.

task          run a TrainSpec: the contents of a model artifact
loop          epochs: train, measure, keep the best
steps         network, optimiser, batches, one step of training
watch         what is measured under attack; overfitting; which epoch is best
estimate      how long it will take
batch_loss    what every recipe is
recipes       each of them
generator     the recipe that trains against a generator
crafting      adversarial examples for a batch
stability     how many ReLUs keep their sign in a ball
augmentation  random changes of images
parallel      several processes that share every batch
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"loop": ["TrainedModel", "train"], "estimate": ["estimate_seconds"]}
)
