"""The live viewer: our own controls in nerfstudio's, and what they show."""

from moegs_ns.engine.viewer.stock import OutputRanges, RenderThreads, TrainingCameras

__all__ = ["OutputRanges", "RenderThreads", "TrainingCameras"]
