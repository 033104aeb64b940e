"""Router fields: splatted per-Gaussian weights become per-pixel gates."""

from moegs_ns.fields.volume_aware_pixel_router import (
    VolumeAwarePixelRouter,
    VolumeAwarePixelRouterConfig,
)

__all__ = ["VolumeAwarePixelRouter", "VolumeAwarePixelRouterConfig"]
