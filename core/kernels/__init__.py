"""Fast paths for a CPU.

convolution  the input gradient of a first layer
sequence     gradients of a plain sequence of layers, its weights prepared once
"""
