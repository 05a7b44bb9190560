"""Fast paths for a CPU.

convolution  the input gradient of a first layer
half         passes in bfloat16
sequence     gradients of a plain sequence of layers, its weights prepared once
"""
