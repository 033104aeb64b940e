"""`ns-train moegs-ed3dgs-dnerf`: E-D3DGS for one moving camera, on D-NeRF.

Nothing was published for D-NeRF. Numbers: the released configurations for HyperNeRF, the other
data of one moving camera, say that opacity and colour stay constant, all of the deformation is
shown from the start, embeddings of time start at zero, densification starts at step 500, clocks
are fixed, all frames are drawn evenly without bursts, and their embeddings are smoothed by 1e-4;
the paper says 0.1 for those of neighbours, where the release has 1. White background and 2000
random points are those of 4DGaussians for D-NeRF. What is not named here is as for N3V.

The cap on the Gaussians is ours: free to grow until the end, one scene got 235 140 of them, which
fitted single images (23.87 dB held-out).
"""

from moegs_ns.method_configs.moegs_ed3dgs import ed3dgs_method
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig

from moegs_ns.data.datamanager import MoegsDataManagerConfig
from moegs_ns.experts.ed3dgs.error_sampling import ErrorSamplingConfig
from moegs_ns.experts.ed3dgs.expert import ED3DGSExpertConfig
from moegs_ns.experts.ed3dgs.recipe import ED3DGSRecipeConfig
from moegs_ns.training.densification import DensificationConfig

NEVER = 10**9
"""A step that no run reaches."""

method = ed3dgs_method(
    "moegs-ed3dgs-dnerf",
    "Expert: E-D3DGS for one moving camera, as in D-NeRF; capped.",
    expert=ED3DGSExpertConfig(
        background=(1.0, 1.0, 1.0), time_spread=0.0, deform_opacity=False, deform_sh=False
    ),
    recipe=ED3DGSRecipeConfig(
        densification=DensificationConfig(
            start=500, stop=79900, every=100, gradient_threshold=3e-4, max_gaussians=40000
        ),
        sampling=ErrorSamplingConfig(random_until=NEVER, burst_steps=0),
        motion_steps=0,
        appearance_start=0,
        appearance_steps=0,
        weight_embedding=0.1,
        weight_time_smoothness=1e-4,
    ),
    time_offset_lr=0.0,
    datamanager=MoegsDataManagerConfig(dataparser=DNeRFDataParserConfig(), num_random_points=2000),
)
