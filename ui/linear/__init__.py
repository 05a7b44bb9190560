"""The page of linear models.

linear_points  points of the plane
linear_limits  what can be proven of them
linear_plane   two features
linear_images  images
linear_toy     six features
"""
