"""The page of glasses and masks.

choice       the choice of the image, the mask and the attack
each_image   the tab on one image, or a few: a pattern for each
one_pattern  the tab on one pattern for many images
why          the tab that explains why it works
export       the tab with the files
"""
