"""Proof: what no perturbation inside a ball can do.

    false_proof  the error that stops a run with a wrong certificate
    ball         linf, l2 and l1 balls inside the box, and the lowest value of a linear function there
    affine       the maps that networks are made of
    nodes        a graph of affine maps, ReLUs, tanh and sums
    graph        the graph of a network, layer by layer
    onnx_values    values of an ONNX network on its way into a graph
    onnx_moving    operators that move, pad, join and pool
    onnx_lowering  the graph of a network from an ONNX file
    framed_lowering  what stands between images and it; networks of torchvision and timm
    curves       linear bounds of tanh
    bounds       interval bounds, quick and differentiable; the rounding error of float32
    crown        linear bounds, propagated backwards
    ascent       a bound and its gradient, in two passes
    alpha        slopes and multipliers optimised for each image
    agreement    the model's own logits against the bounds
    proof        which images are proven, by bounds from the quickest to the tightest
    milp         margins by mixed-integer linear programming
    reduced      a network's graph without the ReLUs that are off
    worth        what it is worth to split a ReLU
    region       a part of a ball, where bounds are tighter
    lookahead    of the ReLUs that are worth splitting, the one whose halves have the best bounds
    cases        branch and bound in one region
    branching    one image by branch and bound, and by integer programming
    exact        complete verification: proven, fooled, unknown; exact radii
    smoothing    randomised smoothing: an l2 certificate with a confidence

Verdicts on networks are computed in float64 and hold for the network as float32 evaluates it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bounds": ["interval", "margin_bounds"],
        "crown": ["linear_margins"],
        "exact": ["Verdicts", "exact_radius", "verify"],
        "false_proof": ["FalseProof"],
        "nodes": ["Unbounded"],
        "proof": ["METHODS", "certified_margins", "proven"],
    },
)
