"""Figures: tables to plotly figures, images to pictures.

base     colours, curves, bars, images
heat     of cells
pixels   images and changes as pictures
linear   of linear models
records  of records
trust    of the reliability checks
"""
