"""`moegs-joint`: experts and their router trained together (MoE-GS, appendix B.1).

The paper compares this with its two stages but publishes no numbers for it. Every expert keeps the
published numbers of its method, the router those of `moegs-router`.
"""

from moegs_ns.method_configs.mixture import router_optimizers
from moegs_ns.method_configs.shared import trainer_config
from nerfstudio.plugins.types import MethodSpecification

from moegs_ns.models.joint_model import JointModelConfig
from moegs_ns.models.resume import LONGEST

moegs_joint = MethodSpecification(
    trainer_config("moegs-joint", JointModelConfig(), router_optimizers(), steps=LONGEST),
    "Mixture: trains experts (--experts stg 4dgaussians) and their router together.",
)
