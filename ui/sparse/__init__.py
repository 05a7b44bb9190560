"""The page of the Jacobian and sparse attacks.

case         one image with its Jacobian, and the tasks of attacks on it
choice       the choice of the image and of the attack's settings
views        figures of attacks on one image: verdict, pictures, the curve of the dense formula
trace        the changes of one image in their order; how many changes many images need
one_image    the tab on one image: a few pixels, change by change
fewest       the tab on how sparse a change can be
enumeration  every change of one or two features, of one image and of many
frontier     the number of changed features against the cap on each change
dense        the tab on all pixels a little
many_images  the tab on many images
quiz         the tab that asks which of two images was changed
export       the tab with the files
"""
