"""The five exercise sets: what to do, where, what is done, and published figures beside those of a store.

published  figures that others published
evidence   what a store holds that answers an exercise
which      which artifacts count
notes      what leaves no artifact: ticks, answers, the quiz
items      what an item is
set1       generators
set2       the Jacobian
set3       FGSM and LeNet
set4       gradient on the input
set5       adversarial training
sets       the five together
curves     the charts of the sets as numbers
plot       those charts as plotly figures
quiz       which digit do you see, at each ε
written    figures as people read them
report     the lab report as one HTML file
"""
