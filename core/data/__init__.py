"""Data sets as tensors in memory: uint8, or float32 where a file has values between the levels of a byte.

sets           load a data set, split it, first images of its test part
framing        MNIST's frame for a handwritten digit, without torch
digits         the embedded set
mnist          MNIST, Fashion-MNIST
cifar10        CIFAR-10
folder         where image data lies, and what to say when it does not
peek           one test image from MNIST's files, without torch
shown          which images a model may be shown besides its own
folder_layout  parts, classes and files of an own folder of images
folder_state   its content as one hash
folder_images  reading its images
image_file    one image file, opened within limits
npz            people's own images in a .npz file
vnnlib         properties of the verification competitions
own            what a folder or a file holds now: classes, content, whether it has changed
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"sets": ["Dataset", "Split", "first_of_test", "load", "to_float"], "folder": ["DataMissing"]},
)
