"""The live viewer: our own controls in nerfstudio's, and what they show."""

from moegs_ns.engine.viewer.live import LiveViewer
from moegs_ns.engine.viewer.stock import RenderThreads, TrainingCameras

__all__ = ["LiveViewer", "RenderThreads", "TrainingCameras"]
