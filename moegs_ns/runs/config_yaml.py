"""Reading a run's config.yml without running anything that it names.

nerfstudio writes configurations as YAML with Python types and reads them with a loader that imports
and calls whatever the file names. Here nothing is imported, and a file may name only

- the dataclasses that installed methods and parsers are configured by: those of their values, those
  that annotate their fields, and what is derived from one of these;
- enumerations found in the same way, paths and tuples;
- as `_target`, the class that an installed method or the dataclass itself has there, one derived
  from it, or another optimiser of torch where that is an optimiser;
- elsewhere a class or function only if an installed method or the dataclass has it in that field.

So families from outside are known as soon as nerfstudio finds their method. No constructor runs.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from nerfstudio.engine.trainer import TrainerConfig
from torch.optim import Optimizer

TRUST = "MOEGS_TRUST"
"""Variable of the environment that lets config files name anything, if it is 1."""
LARGEST = 4_000_000
"""Bytes of a config; those of large mixtures have some ten thousand."""
PYTHON = "tag:yaml.org,2002:python/"
PATHS = {
    f"{module}.{name}"
    for module in ("pathlib", "pathlib._local")
    for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath")
}
"""What the versions of Python call a path."""
GETATTR = PYTHON + "object/apply:builtins.getattr"
"""How some versions of Python 3.11 write a member of an enumeration."""

Key = tuple[str, Any]
"""A node of YAML as a value to compare: its tag and content."""


class UntrustedConfigError(ValueError):
    """A config names something that no installed method is configured by."""

    def __init__(self, node: yaml.Node, what: str) -> None:
        self.name = what
        mark = node.start_mark
        file = "The config.yml" if mark.name.startswith("<") else mark.name
        super().__init__(
            f"{file} names {what} in line {mark.line + 1}, which no installed method has there, so "
            "opening the run could execute foreign code; install the method or version that it "
            f"was trained with, or set {TRUST}=1 in the environment if you trust its author."
        )


# ---- what installed methods are made of ----


@dataclass
class Known:
    """What configs may name, collected from the configurations of installed methods."""

    configs: dict[str, type] = field(default_factory=dict)
    """Dataclasses by full name."""
    enums: dict[str, type[Enum]] = field(default_factory=dict)
    """Enumerations by full name."""
    named: dict[type, dict[str, dict[Key, Any]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    """Classes and functions in fields of dataclasses."""

    def add(self, value: Any) -> None:
        """Collect what a value of a configuration is made of."""
        if is_dataclass(value) and not isinstance(value, type):
            self.add_class(type(value))
            for each in fields(value):
                self._add_field(type(value), each.name, getattr(value, each.name, None))
        elif isinstance(value, Enum):
            self.enums[full_name(type(value))] = type(value)
        elif isinstance(value, Mapping):
            for each in value.values():
                self.add(each)
        elif isinstance(value, list | tuple):
            for each in value:
                self.add(each)

    def add_class(self, cls: type) -> None:
        """Collect a dataclass, those in its annotations, and those derived from it."""
        if full_name(cls) in self.configs:
            return
        self.configs[full_name(cls)] = cls
        for each in fields(cls):
            if each.default is not MISSING:
                self._add_field(cls, each.name, each.default)
            elif each.name == "_target" and each.default_factory is not MISSING:
                self._add_field(cls, each.name, each.default_factory())
        for hint in hints_of(cls).values():
            self._add_hint(hint)
        for derived in cls.__subclasses__():
            self.add_class(derived)

    def _add_field(self, cls: type, name: str, value: Any) -> None:
        if isinstance(value, type | FunctionType) or get_origin(value) is not None:
            self.named[cls][name][key_of_value(value)] = value
        else:
            self.add(value)

    def _add_hint(self, hint: Any) -> None:
        if isinstance(hint, type) and issubclass(hint, Enum):
            self.enums[full_name(hint)] = hint
        elif isinstance(hint, type) and is_dataclass(hint):
            self.add_class(hint)
        for part in get_args(hint):
            self._add_hint(part)

    def value_of(self, cls: type, name: str, node: yaml.Node) -> Any:
        """The class or function that a node names in a field of a dataclass."""
        known = self.named[cls][name]
        if key_of(node) in known:
            return known[key_of(node)]
        if name == "_target":
            for target in derived_targets(known.values()):
                if key_of_value(target) == key_of(node):
                    return target
        raise UntrustedConfigError(node, what_it_names(node))


def installed() -> Known:
    """What the configurations of all installed methods and parsers are made of."""
    # Late: nerfstudio imports all methods, among them the callers of this module.
    from nerfstudio.configs.dataparser_configs import all_dataparsers
    from nerfstudio.configs.method_configs import all_methods

    known = Known()
    # What is not a TrainerConfig stands for a method that nerfstudio offers to install.
    known.add([each for each in all_methods.values() if isinstance(each, TrainerConfig)])
    known.add(list(all_dataparsers.values()))
    return known


def full_name(cls: type | FunctionType) -> str:
    """As PyYAML writes the name of a class or function."""
    return f"{cls.__module__}.{cls.__name__}"


def hints_of(cls: type) -> dict[str, Any]:
    """Annotations of a dataclass's fields; none if some name what exists for type checkers only."""
    try:
        return get_type_hints(cls)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return {}


def derived_targets(targets: Any) -> Iterator[type]:
    """Loaded classes that stand for one of these targets."""
    pending = [get_origin(target) or target for target in targets]
    pending = [target for target in pending if isinstance(target, type)]
    if any(issubclass(target, Optimizer) for target in pending):
        pending.append(Optimizer)
    while pending:
        target = pending.pop()
        yield target
        pending += target.__subclasses__()


def key_of(node: yaml.Node) -> Key:
    """A node as a value to compare."""
    if isinstance(node, yaml.ScalarNode):
        return node.tag, node.value
    if isinstance(node, yaml.SequenceNode):
        return node.tag, tuple(key_of(each) for each in node.value)
    return node.tag, None


def key_of_value(value: Any) -> Key:
    """The key of the node that PyYAML writes for a class, a function or a generic class."""
    if isinstance(value, type | FunctionType) and get_origin(value) is None:
        return f"{PYTHON}name:{full_name(value)}", ""
    return key_of(yaml.compose(yaml.dump(value), Loader=yaml.SafeLoader))


def what_it_names(node: yaml.Node) -> str:
    """What stands behind the tag of a node."""
    return node.tag.removeprefix(PYTHON).partition(":")[2] or node.tag


# ---- constructors ----


def construct_config(loader: Any, name: str, node: yaml.Node) -> Iterator[Any]:
    """A dataclass of an installed method, as it was written, without running its constructor."""
    known = known_to(loader)
    cls = known.configs.get(name)
    if cls is None or not isinstance(node, yaml.MappingNode):
        raise UntrustedConfigError(node, name)
    config = object.__new__(cls)
    yield config
    own, hints = {each.name for each in fields(cls)}, hints_of(cls)
    for key_node, value_node in node.value:
        key = loader.construct_scalar(key_node)
        # Older runs have fields that are gone, but nothing may stand in for a method.
        if key not in own and (hasattr(cls, key) or key.startswith("__")):
            raise UntrustedConfigError(key_node, f"the field '{key}' of {name}")
        if is_name(value_node):
            value = known.value_of(cls, key, value_node)
        else:
            value = loader.construct_object(value_node, deep=True)
        hint = hints.get(key)
        if isinstance(hint, type) and is_dataclass(hint) and not isinstance(value, hint):
            raise UntrustedConfigError(value_node, f"a {type(value).__name__} as {name}.{key}")
        # Also where the dataclass is frozen.
        object.__setattr__(config, key, value)
    if "__setstate__" in vars(cls) and hasattr(config, "__dict__"):
        # As PyYAML does it: the class knows what fields meant that older runs do not have.
        config.__setstate__(dict(vars(config)))


def is_name(node: yaml.Node) -> bool:
    """Whether a node names a class or function, or a generic class with its arguments."""
    return node.tag.startswith((f"{PYTHON}name:", f"{PYTHON}object/apply:_operator.getitem"))


def construct_call(loader: Any, name: str, node: yaml.Node) -> Any:
    """A path or a member of an enumeration, which Python writes as calls."""
    enums, parts = known_to(loader).enums, node.value
    if isinstance(node, yaml.SequenceNode) and all(isinstance(p, yaml.ScalarNode) for p in parts):
        values = [part.value for part in parts]
        if name in PATHS:
            return Path(*values)
        if name in enums and len(values) == 1:
            (wanted,) = map(loader.construct_object, parts)
            values = [each.name for each in enums[name] if each.value == wanted]
        elif node.tag == GETATTR and len(values) == 2:
            name, values = what_it_names(parts[0]), values[1:]
        if name in enums and values and values[0] in enums[name].__members__:
            return enums[name][values[0]]
    raise UntrustedConfigError(node, name)


def refuse(loader: Any, name: str, node: yaml.Node) -> Any:
    """Names outside of the fields that have them, modules, and calls of any other kind."""
    raise UntrustedConfigError(node, name)


CONSTRUCTORS = {
    "object:": construct_config,
    "object/apply:": construct_call,
    "object/new:": refuse,
    "name:": refuse,
    "module:": refuse,
}


def restrict(loader: type) -> None:
    """Let a class of PyYAML's loaders build what is known, and refuse all other Python objects."""
    for kind, construct in CONSTRUCTORS.items():
        yaml.add_multi_constructor(PYTHON + kind, construct, Loader=loader)


class ConfigLoader(yaml.SafeLoader):
    """Reads configurations."""


def construct_tuple(loader: Any, node: yaml.Node) -> tuple[Any, ...]:
    """A tuple, which JSON and plain YAML do not have."""
    return tuple(loader.construct_sequence(node, deep=True))


ConfigLoader.add_constructor(f"{PYTHON}tuple", construct_tuple)
restrict(ConfigLoader)


def known_to(loader: Any) -> Known:
    """What is installed now, collected once for each file."""
    if not hasattr(loader, "known"):
        loader.known = installed()
    return loader.known


def load_config(path: Path) -> Any:
    """What a config.yml describes; see above.

    Raises:
        UntrustedConfigError: it names something else.
        yaml.YAMLError: it is no YAML, or too large for a config.
    """
    if path.stat().st_size > LARGEST:
        raise yaml.YAMLError(f"it has {path.stat().st_size:,} bytes, which is no config")
    text = path.read_text("utf8")
    if is_trusted():
        return yaml.load(text, Loader=yaml.UnsafeLoader)
    loader = ConfigLoader(text)
    loader.name = str(path)
    return loader.get_single_data()


def is_trusted() -> bool:
    """Whether the user lets configs name anything."""
    return os.environ.get(TRUST) == "1"
