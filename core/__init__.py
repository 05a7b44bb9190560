"""Adversarial Lab: train image classifiers, attack them, defend them, measure what is left.

The parts, from the bottom up (a test checks that a part imports only from those above it in this list):

    checks         one sentence for an argument that is none of the known values
    escaping       names written so that no reader takes them for more than names
    specs          what can be asked: frozen, validated, hashable descriptions
    epsilon        the one rule for comparing a distance or a proven radius with eps
    paths          where files are kept, in a clone and in an installed package
    access         what strangers on a server may reach
    progress       how a long run tells where it is, and how it is told to stop
    data           data sets as uint8 tensors in memory
    storage        artifacts on disk, under keys made from their specs
    networks       architectures; whatever normalisation a model needs is its first layer
    models         a saved model, back in memory
    kernels        fast paths for a CPU
    attacks        a folder a family, on one engine
    certification  bounds and exact answers: what no perturbation can do
    linear         linear models, solved exactly
    evaluation     metrics, sweeps over eps, attack tables, model comparison
    training       one loop; a recipe is how a batch's loss is made
    figures        tables -> plotly figures
    exercises      the five exercise sets: what to do, what is done, the lab report
    jobs           run a spec, here or in a process of its own
    cli            the commands of the command line: flags from the same specs as the forms, results as tables or JSON
    __main__       the command line's entry: `python -m core`
"""

import os

__version__ = "0.1.0"

# Threads of a parallel loop that wait should sleep, not spin: beside any other busy process a spinning one starves the
# thread that it waits for (training LeNet on two busy cores: 350 images/s spinning, 5,200 sleeping). OpenMP reads this
# when torch is imported; who sets it otherwise is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
