"""What the command line does: each module holds some commands, as flags to read and a function to run.

flags       specs as flags, and flags as the fields of specs
output      progress on standard error, results on standard output, as tables or JSON
dashboard   dashboard
docs        docs: the reference pages, made from the registries
models      train, models, reference, bundle
devices     device: what there is, whether it computes rightly, which is used
upkeep      verify, restore, migrate
attacks     attack, minimum, sweep, universal, pattern, transfer
evaluation  compare, evaluate, radii, curve, audit, certify
importing   import
gate        --fail-under and --junit: a result as a gate in somebody's CI
exercises   report, and the list of the exercises in the docs
parser      the list of the commands, and the parser made from it
"""
