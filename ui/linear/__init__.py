"""The page of linear models.

points  points in the plane and the models trained on them, cached
limits  the hard margin, and one budget shared by all points
plane   the tab on adversarial training in the plane and the SVM
images  the tab on images: exact robust accuracy and smallest changes
toy     the tab on logistic regression with six features
"""
