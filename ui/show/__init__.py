"""Images, tables and files on a page.

gallery     many images as one sharp mosaic; signed differences
downloads   CSV, Markdown, LaTeX, PNG and NPZ with their provenance inside
provenance  the line that says where a figure comes from
model_rows  models as rows of a table
lessons     what a page teaches
"""
