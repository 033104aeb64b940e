"""Router fields: per-Gaussian weights, pixels and rays become gates."""

from moegs_ns.routers.base import Router, RouterConfig
from moegs_ns.routers.pixel import PixelRouter, PixelRouterConfig
from moegs_ns.routers.volume import VolumeRouter, VolumeRouterConfig
from moegs_ns.routers.volume_aware_pixel import (
    VolumeAwarePixelRouter,
    VolumeAwarePixelRouterConfig,
)

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
