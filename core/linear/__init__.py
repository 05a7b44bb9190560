"""Linear models, solved exactly.

exact     the smallest perturbation, the smallest margin and k(eps), in every norm, with the box
targeted  the smallest change after which one chosen class wins, by linear, quadratic and integer programmes
training  adversarial training of binary linear models in closed form, beside the soft-margin SVM
sides     images on another device than the model
toy       the logistic toy of exercise set 4: six features, steps on the input
"""
