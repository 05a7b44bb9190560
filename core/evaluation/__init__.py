"""Evaluation: what is left of a model's accuracy, and what an attack cost.

metrics      the five metrics and exact intervals (NumPy only)
attack       run an AttackSpec: chosen images, every image kept
pattern      run a PatternSpec: one pattern on glasses or a patch, worn by many
universal    run a UniversalSpec: one perturbation for many images, measured on others
sweep        run a SweepSpec: accuracy and confidence against eps, per image
certify      run a CertifySpec: what is proven of each image, and what was found
radii        run a RadiiSpec: the smallest perturbation of each image, the radius proven
transfer     run a TransferSpec: images made on each model, shown to all of them
records      all artifacts of a model merged into bounds an image; curves are lookups (no torch)
paired       exact tests on the same images: is A more robust than B? (no torch)
workbook     tables as one Excel file (no torch)
auditor      does a published table of the five metrics hold? (no torch)
trust        whether a robust accuracy can be believed (no torch until it runs): trust_rules, trust_case,
             trust_model, trust_attacks
robust       the strongest evaluation of a model on given images: `evaluate`
cascade      the attacks that it is made of, and which images each is for
strongest    run an EvaluateSpec
comparison   models x attacks x eps as one table, and its exports (no torch)
"""
