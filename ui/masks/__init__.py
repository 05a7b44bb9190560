"""The page of glasses and masks.

each_image   draws an attack that makes a pattern for each image
one_pattern  the tab on one pattern for many images
"""
