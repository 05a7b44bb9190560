"""Images, tables and files on a page.

elements     a chart, the height of a table, an error with its details
sheet        a grid of images with its labels, as one PNG file
gallery      many images as one sharp mosaic; signed differences; probabilities as bars
downloads    buttons for CSV, Markdown, LaTeX, Excel, PNG and NPZ files that say where they come from
provenance   the line that says where a figure comes from
model_names  what a model is called: its label in a choice, its short name in tables and charts
model_rows   a table with a row for each model, of which one can be chosen
at_once      the result of a small attack, made in this process where it is not stored
lessons      the explanations that are folded beside the attacks
"""
