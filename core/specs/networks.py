"""Networks: which there are, and what is known of each before it is built."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

from core.specs.base import enter


class NetworkInfo(BaseModel):
    """All that the rest of the program knows of a network; `register_network` makes it one to choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    title: str
    builder: str
    """Where its function is, such as "core.networks.plain:lenet": `(shape, outputs) -> nn.Module`, with shape (C, H, W)
    of 8 by 8 pixels or more; the module maps (N, C, H, W) in [0, 1] to (N, outputs). Imported when it is built."""
    short: str = ""
    """What models of it are called in tables and charts; empty: the title up to its first comma or bracket."""
    batch_norm: bool = False
    """Whether it normalises by the batch's own mean and variance while training: a batch of one image is refused."""
    relus: bool = True
    """Whether it has ReLUs, which training for stability needs."""
    deep: bool = False
    """Whether it has so many layers that interval bounds through them are useless, and that compiling it for a GPU,
    which takes a minute or so, is worth its while."""
    dense_first: bool = False
    """Whether its first layer is dense: trying every change of one or two features then costs next to nothing."""

    @property
    def called(self) -> str:
        """A short name, such as `LeNet`."""
        return self.short or re.split(r"[,(]", self.title)[0].strip()


NETWORKS: dict[str, NetworkInfo] = {}
"""Every network by its name, in the order in which people see them."""


def register_network(info: NetworkInfo) -> NetworkInfo:
    """Put a network into `NETWORKS`. Raises ValueError if the name is taken."""
    enter(NETWORKS, info.name, info)
    return info


for _info in (
    NetworkInfo(
        name="linear",
        title="Linear (logistic regression)",
        builder="core.networks.plain:linear",
        relus=False,
        dense_first=True,
    ),
    NetworkInfo(
        name="mlp", title="Dense network, 256-128", short="Dense", builder="core.networks.plain:mlp", dense_first=True
    ),
    NetworkInfo(name="cnn", title="CNN 10-20-50 with dropout", short="CNN", builder="core.networks.plain:cnn"),
    NetworkInfo(name="lenet", title="LeNet 20-50-500", short="LeNet", builder="core.networks.plain:lenet"),
    NetworkInfo(
        name="strided", title="Strided CNN 16-32-100", short="Strided CNN", builder="core.networks.plain:strided"
    ),
    NetworkInfo(
        name="strided_wide", title="Strided CNN 32-64-512", short="Wide CNN", builder="core.networks.plain:strided_wide"
    ),
    NetworkInfo(
        name="trades_cnn",
        title="TRADES CNN 32-64-200",
        short="TRADES CNN",
        builder="core.networks.plain:trades_cnn",
    ),
    NetworkInfo(
        name="resnet_small",
        title="Small residual network",
        short="ResNet",
        builder="core.networks.residual:resnet_small",
        batch_norm=True,
    ),
    NetworkInfo(
        name="preactresnet18",
        title="PreActResNet-18 (for a GPU)",
        builder="core.networks.residual:preactresnet18",
        batch_norm=True,
        deep=True,
    ),
):
    register_network(_info)
