"""Reliability checks: whether a robust accuracy is a reliable estimate (no torch until they run).

rules        what each check asks, its limits, and what to do
report       what the checks found, and the warning where an accuracy must not be used
examination  the model, the images and the attacks that the checks share
surrogate    a linear model of the images, to transfer from
model        checks of the model
attacks      checks of the attacks
examine      runs the checks
"""
