"""What a person fills in.

tabs          tabs of which only the open one is drawn, bound to the address
bound         widgets whose value stands in the address, which is checked first
select        the choice of one option or of several, kept and bound to the address
widgets       a number, several numbers, and what the annotation of a spec's field says
controls      widgets drawn from the fields of a spec; invalid settings explained in one sentence
data_set      the choice of a data set that a model is trained on, or is for
missing       what to do when the images that a model needs are not on this machine
data_choice   the images that a model is shown
model_picker  the choice of one saved model or of several
samples       the choice of correctly classified test images, from a model's test table
mask_choice   the choice of the pixels that may change: eyeglasses, a patch, or drawn by hand
"""
