"""The page of universal perturbations.

universal_views  a perturbation, and the images it fools
"""
