"""What a person fills in.

widgets       one field of a spec as a widget
controls      widgets drawn from the fields of a spec; refused input as one plain sentence
missing       what to do when a model or its data is missing
model_picker  the choice of a saved model
samples       the choice of test images
mask_choice   the choice of the pixels that may change
"""
