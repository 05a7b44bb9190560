"""What runs the spec of each task, a module each, and what these share.

parts      a task that judges images one by one, in one piece or in parts
opening    how every runner begins, and how its card ends
answers    what a model answers to images, as tables hold it
importing  a model made by others: read, examined, measured
attack     chosen images, every image kept
pattern    one pattern on glasses or a patch, worn by many
universal  one perturbation for many images, measured on others
sweep      accuracy and confidence against eps, per image
certify    what is proven of each image, and what was found
radii      the smallest perturbation of each image, the radius proven
transfer   images made on each model, shown to all of them
evaluate   the strongest evaluation
"""
