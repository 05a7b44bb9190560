"""What a page computes while somebody waits: one image, one thread, a time limit. Never a job.

clock      the time limit, and who computes with a model when
attacking  one image attacked at several ε
proof      up to which ε nothing can fool the model on one image
descent    gradient steps on the input towards a class, and the matrix of their success
likeness   which class an image looks like: the nearest centroid, the nearest training image
"""
