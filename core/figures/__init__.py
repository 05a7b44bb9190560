"""Figures: tables to plotly figures.

base        colours, curves, bars, images
heat        of cells
linear      of linear models
records     success against distance, and who fools whom
robustness  robust accuracy against ε: attacked, proven, unknown
trust       of the reliability checks
"""
