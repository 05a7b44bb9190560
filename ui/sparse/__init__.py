"""The page of the Jacobian and sparse attacks.

sparse_views        one image: gradients and attacks
sparse_parts        its forms and results
sparse_many         many images
sparse_enumeration  every change of one or two features
sparse_frontier     how few features against the cap on each change
"""
