"""What the Train and Overview pages show of models.

saved       the table of saved models and the report of one
references  the table of reference models, the card of one, a model beside one
"""
