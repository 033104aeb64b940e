"""What the rest of the project needs to know about a scene beyond its images."""

from moegs_ns.scene import FrameTable, SceneInfo, frames_from_times, scene_extent

__all__ = ["FrameTable", "SceneInfo", "frames_from_times", "scene_extent"]
