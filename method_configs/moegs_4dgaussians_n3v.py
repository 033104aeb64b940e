"""`ns-train moegs-4dgaussians-n3v`: 4DGaussians as published for Neural 3D Video.

Numbers: the released N3V configuration; four of the six scenes have two images per step, the other
two have four (`--pipeline.model.recipe.views 4`). Its 150 cells along time are half the 300 frames.
"""

from moegs_ns.method_configs.moegs_4dgaussians import WHITE, hexplane_method, published_recipe

from moegs_ns.experts.fourdgaussians.expert import HexPlaneExpertConfig

method = hexplane_method(
    "moegs-4dgaussians-n3v",
    "Expert: 4DGaussians as published for N3V.",
    expert=HexPlaneExpertConfig(background=WHITE),
    recipe=published_recipe(views=2),
)
