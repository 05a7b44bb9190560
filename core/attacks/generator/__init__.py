"""A generator network for each image.

generator         exercise set 1's generators, trained in turns
generator_strong  the same two steps, each where it is needed; l2
"""
