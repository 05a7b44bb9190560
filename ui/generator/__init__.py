"""The page of the generator attack.

views    draws what the attack made: the grid, one pair, its rounds, the matrix of classes
results  the results below the form, and the form of the matrix
compare  other attacks on the same pairs, the same attack on other models, transfer to them
"""
