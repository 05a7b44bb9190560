"""Attacks that look for the smallest perturbation.

nearest         onto the nearest decision boundary found so far
deepfool        to the linearised boundary, exactly, inside the box; linf, l2, l1
carlini_wagner  squared distance plus margin, searched trade-off; l2
ead             elastic net: few and small changes; l1
ddn             direction and norm apart, along the boundary; l2
fmn             a ball that follows the boundary; linf, l2, l1, l0
pdpgd           descent, the norm's shrinkage, a trade-off by verdict; linf, l2, l1, l0
fab             between the linearised boundary and the image; linf, l2, l1
minimum         the best of several within a budget of passes; linf, l2, l1, l0
"""
