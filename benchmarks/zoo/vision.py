"""Models of torchvision and timm with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from catalogue import row

if TYPE_CHECKING:
    from catalogue import Made

VISION, TIMM = ("torchvision",), ("timm",)


def images(size: int = 64, batch: int = 2) -> list[torch.Tensor]:
    """Two inputs, ``(batch, 3, size, size)``."""
    return [torch.randn(batch, 3, size, size) for _ in range(2)]


@row("torchvision", needs=VISION)
def resnet18() -> Made:
    """A classifier."""
    from torchvision import models

    return models.resnet18(weights=None), images()


@row("torchvision", "resnet18, two batch sizes", needs=VISION)
def resnet18_batches() -> Made:
    """One image, and three."""
    from torchvision import models

    return models.resnet18(weights=None), [images(64, 1)[0], images(64, 3)[0]]


@row("torchvision", needs=VISION)
def mobilenet_v3_small() -> Made:
    """A classifier."""
    from torchvision import models

    return models.mobilenet_v3_small(weights=None), images()


@row("torchvision", needs=VISION)
def efficientnet_b0() -> Made:
    """A classifier."""
    from torchvision import models

    return models.efficientnet_b0(weights=None), images()


@row("torchvision", needs=VISION)
def googlenet() -> Made:
    """A classifier that gives a NamedTuple in training."""
    from torchvision import models

    return models.googlenet(weights=None, init_weights=False), images()


@row("torchvision", "lraspp_mobilenet_v3_large", needs=VISION)
def lraspp() -> Made:
    """Segmentation: an OrderedDict."""
    from torchvision.models import segmentation

    module = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    return module, images()


@row("torchvision", "fasterrcnn_mobilenet_v3_large_320_fpn", needs=VISION)
def fasterrcnn() -> Made:
    """A detector: a list of images in, a list of dicts out."""
    from torchvision.models import detection

    module = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, box_score_thresh=0.0
    )
    return module, [([torch.rand(3, 96, 96), torch.rand(3, 80, 112)],) for _ in range(2)]


@row("timm", "timm resnet18", needs=TIMM)
def timm_resnet18() -> Made:
    """A classifier."""
    import timm

    return timm.create_model("resnet18"), images()


@row("timm", "timm vit_tiny_patch16_224", needs=TIMM)
def timm_vit_tiny() -> Made:
    """A classifier."""
    import timm

    return timm.create_model("vit_tiny_patch16_224"), images(224, 1)


@row("timm", "timm convnext_atto", needs=TIMM)
def timm_convnext_atto() -> Made:
    """A classifier."""
    import timm

    return timm.create_model("convnext_atto"), images()


@row("timm", "timm resnet18, features_only", needs=TIMM)
def timm_features() -> Made:
    """A list of feature maps."""
    import timm

    return timm.create_model("resnet18", features_only=True), images()
