"""The pages that measure: epsilon sweep and model comparison.

sweep_choice      the form: models, attacks, budgets ε and number of images; what has not been run
sweep_views       finished sweeps as curves, their names, and tables made of them
sweep_parts       the sweep page's part on single attacks: curves, metrics, confidence, images
sweep_notes       where accuracy falls to chance, and signs that an attack is weak
record_choice     the norm, the number of images and the ε at which records are read
record_runs       forms that run more: smallest changes, or the strongest evaluation
record_views      proven and attacked accuracy at any ε, and the results that it rests on
robust_views      the comparison page's part on records: models at one ε, paired tests, reliability checks
trust_views       draws the reliability checks of an evaluation
comparison_views  tables of models, two models on the same images, the exports
transfer_views    the matrix of which model's adversarial examples fool which model
audit_views       checks the figures of a published table
"""
