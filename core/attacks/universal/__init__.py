"""One perturbation for many images.

universal         UAP, gradient steps
universal_lp      the smallest one for a set of images, by linear programming; why there is none
universal_search  what a perturbation does to a set, and the programme set up there
programme         a linear programme over one perturbation, and what its dual proves
"""
