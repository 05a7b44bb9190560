"""The page of universal perturbations.

choice    the choice of the model, the method and its settings
views     the verdict, the rates as a chart, the perturbation, images before and after
held_out  the tab on images that the perturbation was not made from
solver    the tab on the linear programme: the smallest ε, the lower bound, or why there is none
export    the tab with the files
"""
