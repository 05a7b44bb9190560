"""Patterns on objects.

mask_shapes  eyeglasses and patches as masks
scenes       objects that shift, in changing light
physical     a pattern on glasses or a patch, averaged over scenes
pattern      one such pattern for many images
"""
