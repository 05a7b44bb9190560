"""Architectures, from pixels in [0, 1] to logits; whatever normalisation a model needs is its first layer.

layers    normalisation, full convolution, scalar score
altered   hooks and replaced methods: whether a layer computes what its class says
plain     linear, dense, CNN 10-20-50, LeNet, strided CNNs
residual  small residual network, PreActResNet-18
table     the layer table
portions  what an image costs; batches in portions that fit the memory
framed   a network made by others behind what it needs
cifar     residual networks for 32×32 images, named as public checkpoints name their weights
architectures  networks of this program, torchvision and timm by name, and weights into them
weight_files  weights from safetensors and checkpoints, without running code
onnx_file  ONNX files, read safely
onnx_operators  ONNX's operators as torch functions
onnx_shapes  those of shapes, places and types
onnx_windows  those on windows of images
onnx_resize  Resize and Upsample
onnx_check  their numbers, compared with ONNX's own
onnx_rest  tensors and attributes of ONNX, and onnx2pytorch for the rest of the operators
onnx_network  a network from an ONNX file
onnx_export  a module in memory as an ONNX file that computes the same
draws        whether a call draws random numbers
trusted      networks that only running code brings into memory
catalogue  a new network by its name; logits of many images
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "catalogue": ["build", "centre_of", "logits_of", "with_threshold"],
        "layers": ["Centre", "FullConv2d", "ScalarScore"],
        "table": ["layer_table", "parameter_count"],
    },
)
