"""Attacks that look for the smallest perturbation.

nearest         a last step onto the nearest boundary of the linearised model
deepfool        steps onto the linearised boundary, exact inside the box; linf, l2, l1
carlini_wagner  squared distance plus margin, with a searched trade-off; l2
ead             the elastic net: few and small changes; l1
ddn             direction and norm separately, along the boundary; l2
fmn             a ball that follows the boundary; linf, l2, l1, l0
pdpgd           descent and proximal steps, with a trade-off that follows success; linf, l2, l1, l0
fab             projections between the linearised boundary and the image; linf, l2, l1
minimum         the best of several within a budget of model evaluations; linf, l2, l1, l0
"""
