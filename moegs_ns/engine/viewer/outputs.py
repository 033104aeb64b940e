"""What the viewer can show of one camera; each is computed when it is asked for, once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from moegs_ns.cameras import View
from moegs_ns.experts.base import Expert
from moegs_ns.experts.names import readable
from moegs_ns.mixture.fuse import fused_image
from moegs_ns.mixture.live import LiveChoices, render_live
from moegs_ns.mixture.mixture import Mixture, MixtureRender
from moegs_ns.models.expert_model import ExpertModel
from moegs_ns.models.mixture_model import MixtureModel
from moegs_ns.splatting import RenderOutput, rasterize, render

PICTURE, MIXTURE = "Picture", "Mixture"
DEPTH, ACCUMULATION, STRONGEST, FUSED = "Depth", "Accumulation", "Strongest gate", "Fused set"


def gate_of(name: str) -> str:
    """The name of an expert's gate among the outputs."""
    return f"Gate of {name}"


@dataclass(frozen=True, eq=False)
class Output:
    """One image, and what its values mean."""

    values: Float[Tensor, "H W 3"] | Float[Tensor, "H W 1"]
    """Colours, or one value per pixel."""
    top: float | None = 1.0
    """Value of the brightest colour of a map that begins at 0; None for the image's own range."""


def draw_alone(
    expert: Expert, index: int, view: View, choices: LiveChoices
) -> tuple[Float[Tensor, "H W 3"], RenderOutput]:
    """One expert's final image of one camera, and what was rasterised."""
    if choices.changes_gaussians:
        gaussians = choices.select(index, expert.at(view.time))
        output = render(gaussians, view, near=expert.near)
    else:
        output = rasterize(expert.project([view]), view).only()
    background = expert.background if choices.background is None else choices.background
    return expert.finish(output, view, background)[0], output


class Drawing:
    """One camera, drawn as far as somebody looks at it."""

    @property
    def gates(self) -> Float[Tensor, "E H W 1"] | None:
        """Of the experts; None where nothing is mixed."""
        return None

    @property
    def picture(self) -> Float[Tensor, "H W 3"]:
        """What the model is for."""
        raise NotImplementedError

    def output(self, name: str) -> Output:
        """One of the subject's outputs."""
        raise NotImplementedError


class Subject:
    """What a model offers to look at."""

    names: tuple[str, ...]
    """Of the experts, for people."""

    @property
    def mixture(self) -> Mixture | None:
        """What mixes the experts; None where nothing is mixed."""
        return None

    @property
    def experts(self) -> list[Expert]:
        """The experts, in the order of their names."""
        raise NotImplementedError

    @property
    def outputs(self) -> list[str]:
        """Names of what may be shown; the first is what the model is for."""
        raise NotImplementedError

    def draw(self, view: View, choices: LiveChoices) -> Drawing:
        """One camera with somebody's choices."""
        raise NotImplementedError


class ExpertSubject(Subject):
    """An expert that is trained or opened by itself."""

    def __init__(self, model: ExpertModel) -> None:
        self.model = model
        self.names = ("Expert",)

    @property
    def experts(self) -> list[Expert]:
        return [self.model.expert]

    @property
    def outputs(self) -> list[str]:
        return [PICTURE, DEPTH, ACCUMULATION]

    def draw(self, view: View, choices: LiveChoices) -> "ExpertDrawing":
        return ExpertDrawing(self.model.expert, view, choices)


class ExpertDrawing(Drawing):
    """One camera of an expert."""

    def __init__(self, expert: Expert, view: View, choices: LiveChoices) -> None:
        self._picture, drawn = draw_alone(expert, 0, view, choices)
        self._outputs = {
            PICTURE: Output(self._picture),
            DEPTH: Output(drawn.depth[0], top=None),
            ACCUMULATION: Output(drawn.alpha[0]),
        }

    @property
    def picture(self) -> Float[Tensor, "H W 3"]:
        return self._picture

    def output(self, name: str) -> Output:
        return self._outputs[name]


class MixtureSubject(Subject):
    """A mixture, its experts and its gates."""

    def __init__(self, model: MixtureModel) -> None:
        self.model = model
        self.names = tuple(readable(name) for name in model.config.expert_names)

    @property
    def mixture(self) -> Mixture:
        """The present one: pruning replaces it."""
        return self.model.mixture

    @property
    def experts(self) -> list[Expert]:
        return self.mixture.experts

    @property
    def outputs(self) -> list[str]:
        gates = [gate_of(name) for name in self.names]
        names = [MIXTURE, *self.names, DEPTH, ACCUMULATION, STRONGEST, *gates]
        return [*names, FUSED] if self.model.responsibilities.values else names

    def draw(self, view: View, choices: LiveChoices) -> "MixtureDrawing":
        return MixtureDrawing(self, view, choices)


class MixtureDrawing(Drawing):
    """One camera of a mixture."""

    def __init__(self, subject: MixtureSubject, view: View, choices: LiveChoices) -> None:
        self._view, self._choices = view, choices
        self._mixture = subject.mixture
        self._responsibilities = subject.model.responsibilities.values
        self._images: dict[str, Callable[[], Output]] = {
            MIXTURE: lambda: Output(self.render.rgb),
            DEPTH: lambda: Output(self.render.depth, top=None),
            ACCUMULATION: lambda: Output(self.render.accumulation),
            STRONGEST: lambda: Output(self.render.argmax_gate),
            FUSED: self._fused,
        }
        for k, name in enumerate(subject.names):
            # An expert alone costs one expert, whatever is mixed.
            self._images[name] = lambda k=k: self._alone(k)
            self._images[gate_of(name)] = lambda k=k: Output(self.render.gates[k])

    def output(self, name: str) -> Output:
        return self._images[name]()

    @cached_property
    def render(self) -> MixtureRender:
        """The whole mixture."""
        return render_live(self._mixture, self._view, self._choices)

    @property
    def picture(self) -> Float[Tensor, "H W 3"]:
        return self.render.rgb

    @property
    def gates(self) -> Float[Tensor, "E H W 1"]:
        return self.render.gates

    def _alone(self, k: int) -> Output:
        return Output(draw_alone(self._mixture.experts[k], k, self._view, self._choices)[0])

    def _fused(self) -> Output:
        return Output(fused_image(self._mixture, self._responsibilities, self._view))


def subject_of(model: ExpertModel | MixtureModel) -> Subject:
    """What there is to see of a model."""
    return MixtureSubject(model) if isinstance(model, MixtureModel) else ExpertSubject(model)
