"""Attacks that change few features.

jacobian            derivatives of logits and scores; the dense formula
sparse              few features, greedily, then pruned
pruning             fewer features of an image that fools
swaps               fewer features by exchanging two changes for one other
averaged_gradients  features chosen by gradients averaged on the way
guided              random search, drawn by gradients that were seen far from the image
sigma_zero          a smooth count of features; l0
jsma                pairs of features by their saliency; l0
saliency            JSMA's maps and the best pairs on them
exhaustive          every change of one feature, and of two; what it proves
first_layer         rank-one updates where the first layer is linear
frontier            the fewest features for each cap on their change
"""
