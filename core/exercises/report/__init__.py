"""The lab report as one HTML file without requests.

report   which items are in it, and in what order
blocks   a stored model or result: table, chart, pictures, provenance
page     texts, tables and pictures as HTML
svg      charts as inline SVG
"""
