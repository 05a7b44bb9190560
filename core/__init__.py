"""Adversarial Lab: train image classifiers, attack them, defend them, measure what is left.

The parts, from the bottom up (a test checks that a part imports only from those above it in this list):

    specs          what can be asked: frozen, validated, hashable descriptions
    epsilon        the one rule for comparing a distance or a proven radius with eps
    false_proof    the error that stops a run whose certificates are wrong
    progress       how a long run tells where it is, and how it is told to stop
    files          writing and locking files so that nothing is ever half there
    data_folder    where image data lies, and what to say when it does not
    folder_layout  parts, classes and files of an own folder of images (folder_state: its content; folder_images)
    cards          what an artifact's folder holds, and whether it is what its card says
    shipped        the reference models that ship with the project, as a second root of the store
    store          artifacts on disk, under keys made from their specs
    trained_on     whether the images at hand are those that a model was trained on
    reference      the list of the reference models, what each is for, and which is like a given training
    enumeration    what an enumeration of changes has proven, in words
    toy            the logistic toy of exercise set 4: six features, steps on the input
    events         what a job has told so far
    data           data sets as uint8 tensors in memory
    networks       architectures; whatever normalisation a model needs is its first layer
    models         a saved model, back in memory
    attacks        one file a family; geometry, losses and the engine below them
    certification  bounds and exact answers: what no perturbation can do
    evaluation     metrics, sweeps over eps, attack tables, model comparison
    training       one loop; a recipe is how a batch's loss is made
    figures        tables -> plotly figures (figures_heat: of cells; figures_linear, _records, _trust: of those)
    running        run a spec in this process: find its artifact, or make it
    reference_build  train, measure and ship a reference model
    jobs, worker   run a spec in a process of its own
    cli            the commands of the command line: flags from the same specs as the forms, results as tables or JSON
    __main__       the command line's entry: `python -m core`
"""

import os

__version__ = "0.1.0"

# Threads of a parallel loop that wait should sleep, not spin: beside any other busy process a spinning one starves the
# thread that it waits for (training LeNet on two busy cores: 350 images/s spinning, 5,200 sleeping). OpenMP reads this
# when torch is imported; who sets it otherwise is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
