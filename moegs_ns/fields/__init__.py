"""Router fields: per-Gaussian weights, pixels and rays become gates."""

from moegs_ns.fields.base import Router, RouterConfig
from moegs_ns.fields.pixel_router import PixelRouter, PixelRouterConfig
from moegs_ns.fields.volume_aware_pixel_router import (
    VolumeAwarePixelRouter,
    VolumeAwarePixelRouterConfig,
)
from moegs_ns.fields.volume_router import VolumeRouter, VolumeRouterConfig

__all__ = [
    "PixelRouter",
    "PixelRouterConfig",
    "Router",
    "RouterConfig",
    "VolumeAwarePixelRouter",
    "VolumeAwarePixelRouterConfig",
    "VolumeRouter",
    "VolumeRouterConfig",
]
