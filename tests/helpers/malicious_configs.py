"""Configs of runs that would execute code if they were read as nerfstudio reads them."""

from typing import Any

import yaml
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.trainer import TrainerConfig

METHODS: dict[str, Any] = {
    name: config for name, config in all_methods.items() if isinstance(config, TrainerConfig)
}
STG = yaml.dump(METHODS["moegs-stg"])
TRAINER = "!!python/object:moegs_ns.engine.trainer.MoegsTrainerConfig"
CALL = "!!python/object/apply:os.system ['touch {mark}']"
WRITER = "!!python/object/apply:nerfstudio.utils.writer"
MODEL = "!!python/object:nerfstudio.models.base_model.ModelConfig"


def with_target(target: str) -> str:
    """The config of STG with another class of the model."""
    return STG.replace("!!python/name:moegs_ns.models.expert_model.ExpertModel ''", target)


MALICIOUS = {
    "the whole file": CALL,
    "a field": f"{TRAINER}\ndata: {CALL}",
    "nested in lists": f"{TRAINER}\na: [[!!python/tuple [{CALL}]]]",
    "a key": f"{TRAINER}\na: {{? {CALL} : 1}}",
    "arguments of a path": f"{TRAINER}\ndata: !!python/object/apply:pathlib.PosixPath [{CALL}]",
    "a call with keywords": "!!python/object/apply:subprocess.call {args: [touch, '{mark}']}",
    "an instance": "!!python/object/new:os.system ['touch {mark}']",
    "a state": "!!python/object/new:type {args: [A, !!python/tuple [], {}], state: {a: 1}}",
    "a getattr": "!!python/object/apply:builtins.getattr [!!python/name:os '', system]",
    "a module": f"{TRAINER}\na: !!python/module:antigravity",
    "a function": f"{TRAINER}\n_target: !!python/name:os.system ''",
    "a function of nerfstudio": with_target(
        "!!python/name:nerfstudio.utils.scripts.run_command ''"
    ),
    "a class of another base": with_target("!!python/name:subprocess.Popen ''"),
    "a class of another field": with_target(
        "!!python/name:moegs_ns.training.optimizers.FusedAdam ''"
    ),
    "a method": f"{TRAINER}\nset_timestamp: 1",
    "a hook of copies": f"{TRAINER}\n__deepcopy__: 1",
    "another kind of config": f"{TRAINER}\npipeline: {MODEL} {{}}",
    "a call of a type": f"{TRAINER}\nvis: {WRITER}.LocalWriter [1]",
    "no member": f"{TRAINER}\na: {WRITER}.EventName [nothing]",
}  # fmt: skip
