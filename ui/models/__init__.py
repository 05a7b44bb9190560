"""What the Train and Overview pages show of models.

earlier     a model against earlier ones: accuracy by epoch, clean and under attack
saved       the table of saved models and the report of one
references  the table of reference models, the card of one, a model beside one
"""
