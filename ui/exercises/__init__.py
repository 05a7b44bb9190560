"""The parts of the page on the exercises.

known    what the store holds, read again when it changes
central  the picture or chart of each set
cards    the items of a set, each with its buttons
quiz     which digit do you see, at each ε
costs    clean accuracy of defended models, accuracy by epoch
hand_in  the lab report
"""
