"""The pages on models.

model_views      the table of saved models, the report of one
reference_views  the reference models, and what they are for
"""
