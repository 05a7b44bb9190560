"""Adversarial Lab: train image classifiers, attack them, defend them, measure what is left.

The parts, from the bottom up (a module may import only from those above it in this list):

    specs          what can be asked: frozen, validated, hashable descriptions
    data           data sets as uint8 tensors in memory
    store          artifacts on disk, under keys made from their specs
    networks       architectures; whatever normalisation a model needs is its first layer
    attacks        one file a family; geometry, losses and the engine below them
    training       one loop; a recipe is how a batch's loss is made
    evaluation     metrics, sweeps over eps, attack tables, model comparison
    figures        artifact -> plotly figure
    jobs           run a spec here or in a process of its own
    __main__       the command line, made from the same specs as the forms
"""

__version__ = "0.1.0"
