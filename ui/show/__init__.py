"""Images, tables and files on a page.

gallery     many images as one sharp mosaic; signed differences
downloads   CSV, Markdown, LaTeX, PNG and NPZ with their provenance inside
provenance  the line that says where a figure comes from
model_names  what a model is called: its label in a choice, its short name in tables and charts
model_rows   a table with a row for each model, of which one can be chosen
lessons     what a page teaches
"""
