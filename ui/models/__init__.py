"""What the pages Train, All models and Add a model show of models.

earlier     a model against earlier ones: accuracy by epoch, clean and under attack
found       what was found out about an imported model
saved       the table of saved models and the report of one
references  the table of reference models, the card of one, a model beside one
"""
