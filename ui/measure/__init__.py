"""The pages that measure: epsilon sweep and model comparison.

first_view        what the pages show at first; the models of exercise set 5
sweep_choice      the choice of models, attacks and ε; what has not been run
sweep_views       finished sweeps as curves, their names, and tables made of them
measured          what is known of the chosen models at every ε, and the answer in a sentence
sweep_parts       the sweep page's tabs: chart and table, images, confidence
sweep_export      what can be taken away from the sweep page
sweep_notes       where accuracy falls to chance, signs that an attack is weak, why a plain loop of FGSM differs
record_choice     of which images records are read, and at which ε they are drawn
record_runs       forms that run more: smallest changes, or the strongest evaluation
record_views      records and the results that they rest on
reliability       the reliability checks of the figures at one ε
trust_views       draws the reliability checks of an evaluation
ranking_views     the comparison page's ranked table
comparison_views  set 3's tables, two models on the same images, the exports
order_views       paired tests: is A more robust than B?
transfer_views    the matrix of which model's adversarial examples fool which model
audit_views       checks the figures of a published table
"""
