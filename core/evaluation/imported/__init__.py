"""What is found out about a network made by others before a figure of it is believed.

findings        one finding, with its verdict; and the whole examination
fits            how images are brought to the shape that a network takes
normalisations  the usual ones, in numbers
candidates      the framings that are tried
asking          a network is asked: what it takes, answers and costs
answers         logits, probabilities or a score; the order of the classes
search          framings tried on the same images, and told from each other
behaviour       batch, calls, train mode
slopes          gradients
verdicts        the findings that come from the search, in sentences
orders          the finding on the order of the classes
examine         the whole examination
"""
