"""Figures and records (no torch).

metrics          the five metrics and exact intervals
artifact_bounds  the bounds on each image's smallest perturbation that one artifact gives
record           what is known about a model's images in one norm, and which searches and proofs hold at an eps
records          all artifacts of a model merged into bounds an image; curves are lookups
paired           exact tests on the same images: is A more robust than B?
comparison       models x attacks x eps as one table, and its exports
export           a table as CSV, Markdown or LaTeX
workbook         tables as one Excel file
auditor          does a published table of the five metrics hold?
enumeration      what an enumeration of changes has proven, in words
"""
