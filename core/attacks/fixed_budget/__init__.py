"""Attacks inside a given perturbation budget, by gradients.

fgsm       one signed step
pgd        many projected steps, linf, l2 and l1, with an active set
iterative  PGD's relatives: R+FGSM, BIM, MI-FGSM
step_rule  how APGD chooses its steps: halved where the loss no longer falls
apgd       steps that adapt, losses CE, margin and DLR, one class after the other; linf, l2, l1
hop        from the best point of another attack, disturbed and descended again; linf, l2, l1
shrinking  from far away in a ball that shrinks to eps; l2, l1
transfer   made on a surrogate, queried once: MI, DI, TI; linf, l2
"""
