"""Figures: tables to plotly figures.

base     colours, curves, bars, images
heat     of cells
linear   of linear models
records  of records
trust    of the reliability checks
"""
