"""The page of the Jacobian and sparse attacks.

views        one image with its Jacobian, and figures of what the attacks did to it
one_image    the tabs on one image: all pixels a little, a few pixels
many_images  the tabs on many images: how many changes they need, and a quiz
enumeration  the tab that tries every change of one or two features
frontier     the tab on the number of changed features against the cap on each change
"""
