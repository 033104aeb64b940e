"""`ns-train moegs-4dgaussians-hypernerf`: 4DGaussians as published for HyperNeRF.

Numbers: the released HyperNeRF configurations. Their cells along time, 80 to 250, are about half
the frames of each scene, as is the default here.
"""

from moegs_ns.method_configs.moegs_4dgaussians import WHITE, hexplane_method, published_recipe

from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig

method = hexplane_method(
    "moegs-4dgaussians-hypernerf",
    "Expert: 4DGaussians as published for HyperNeRF.",
    expert=HexPlaneExpertConfig(
        background=WHITE, levels=(1, 2, 4), deform_opacity=False, deform_sh=False
    ),
    recipe=published_recipe(views=2),
)
