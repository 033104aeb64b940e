"""Splatting: gsplat on CUDA, Numba on the CPU, plain torch as the reference, behind one face."""

from moegs_ns.splatting.rendering import (
    ExpertRenderOutputs,
    ProjectedGaussians,
    RenderOutput,
    composite,
    project,
    project_experts,
    rasterize,
    render,
    render_experts,
)

__all__ = [
    "ExpertRenderOutputs",
    "ProjectedGaussians",
    "RenderOutput",
    "composite",
    "project",
    "project_experts",
    "rasterize",
    "render",
    "render_experts",
]
