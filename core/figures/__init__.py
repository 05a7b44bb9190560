"""Figures: tables to plotly figures, images to pictures.

base        colours, curves, bars, images
heat        of cells
imported    of the import of a model
linear      of linear models
pixels      images and changes as pictures
records     success against distance, and who fools whom
robustness  robust accuracy against ε: attacked, proven, unknown
trust       of the reliability checks
"""
