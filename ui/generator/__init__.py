"""The page of the generator attack.

generator_views    one attack, step by step
generator_parts    the forms and results of its tabs
generator_compare  models side by side under it
"""
