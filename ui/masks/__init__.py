"""The page of glasses and masks.

mask_views  one image
mask_many   one pattern for many images
"""
