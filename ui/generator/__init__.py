"""The page of the generator attack.

pairs    the pairs of image and target that are known, from the stored runs
choices  the settings: samples, mode, rounds, loss
cost     how long an attack will take
views    draws what the attack made: the grid, one pair, its rounds, the matrix of classes
results  the tabs of one result: grid, curves, matrix, files
compare  other attacks on the same pairs, and transfer to other models
robust   a model that was trained against this attack, beside one that was not
"""
