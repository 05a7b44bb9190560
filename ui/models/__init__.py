"""What the pages Train, All models and Add a model show of models.

adding      the form of the page Add a model
architectures  names of architectures on offer for weights
earlier     a model against earlier ones: accuracy by epoch, clean and under attack
example     what is found out, shown of a bundled network before anything is imported
found       what was found out about an imported model
saved       the table of saved models and the report of one
references  the table of reference models, the card of one, a model beside one
unreadable  what lies in the store and cannot be read
"""
