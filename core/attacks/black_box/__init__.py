"""Attacks without gradients.

square         random search by squares; linf, l2
simba          one direction of a basis at a time; linf, l2
hop_skip_jump  the smallest perturbation by the predicted class alone; linf, l2
sparse_rs      random search over few pixels; l0
one_pixel      differential evolution of a pixel, or a few; l0
"""
