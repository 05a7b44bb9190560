"""The page of universal perturbations.

views  draws a universal perturbation, its fooling rates and its proof
"""
