"""`moegs export`: runs in forms for other places: compact, a PLY of every frame, a player page."""

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.engine.trainer import MoegsPipeline, load_pipeline
from moegs_ns.launch.cli_args import output_option
from moegs_ns.models.base import scene_of
from moegs_ns.reports.clip_frames import ClipSet, FusedClip, chosen_frames, clip_set
from moegs_ns.reports.compact_export import NEAR, write_compact
from moegs_ns.reports.orientation import AS_IS, PLY_UP, Up, turn_between, up_direction
from moegs_ns.reports.player_gates import gated, not_expressed
from moegs_ns.reports.player_page import Stage, physical_cameras, write_page
from moegs_ns.reports.ply_sequence import SEQUENCE_RECORD, PlySequence, write_sequence
from moegs_ns.runs.checkpoint import CONFIG_NAME, Run, open_run

KINDS = ("compact", "ply_sequence", "html")


@dataclass
class Export:
    """Write a run for other places: a small copy (`--compact`) that is opened like any run, but
    whose training cannot go on; a PLY file of every frame (`--ply-sequence`); a page that plays the
    clip in a browser (`--html`). One time as PLY or SPZ: `moegs fuse`."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of a run. Of a mixture PLY files hold the fused set."""
    output_dir: Annotated[Path, output_option("--output-dir")]
    """Folder to make for the copy or the sequence; .html file of the page."""
    compact: bool = False
    """Leave out the state of the optimisers, store 16 bits for geometry and 8 for colours."""
    ply_sequence: bool = False
    """Write a PLY of every frame. A sequence that was broken off goes on."""
    html: bool = False
    """Write a page that plays the clip, with orbit, cameras, experts and gates."""
    mixture: Literal["gates", "fused"] = "gates"
    """What a page plays of a mixture: experts blended by the router's gates if it can, or the fused
    set, which is faster."""
    frames: tuple[int, int] | None = None
    """First and last frame, as the recording counts them; None for all."""
    every: int | None = None
    """Take every n-th of them only. None takes all for a sequence, at most 60 for a page."""
    up: Up = "cameras"
    """What is up, and -y in PLY files: the mean of the cameras, or an axis of the world; `as-is`
    turns nothing."""
    max_mb: float = 50.0
    """Largest size of a page; Gaussians of least opacity times size are left out."""
    max_views: int | None = None
    """Training images to measure a mixture's responsibilities on, evenly spaced; None for all, or
    for those stored in the run."""
    measure: bool = True
    """Of a compact copy: compare held-out views, where the data are at hand."""

    def main(self) -> None:
        """Write what is asked for and print what it is."""
        self.check()
        if self.compact:
            self.write_compact()
        elif self.ply_sequence:
            self.write_sequence()
        else:
            self.write_page()

    def check(self) -> None:
        """Raise ValueError for options that name nothing to write, or are out of range."""
        chosen = [kind for kind in KINDS if getattr(self, kind)]
        if len(chosen) != 1:
            found = " and ".join(f"--{kind.replace('_', '-')}" for kind in chosen) or "none"
            raise ValueError(
                "moegs export expects one kind of file to write, --compact, --ply-sequence or "
                f"--html, got {found}."
            )
        if not self.max_mb > 0:
            raise ValueError(f"--max-mb expects a size above 0, got {self.max_mb:g}.")
        if self.max_views is not None and self.max_views < 1:
            raise ValueError(
                f"--max-views expects a number of training images of at least 1, got "
                f"{self.max_views}."
            )
        if self.html and self.output_dir.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--output expects the name of an .html file, got {self.output_dir}.")
        if self.html and self.up == AS_IS:
            raise ValueError(
                "--up as-is is for files that may be turned; a page orbits about what is up: name "
                "cameras or an axis, as in --up z."
            )

    def opened(self) -> tuple[Run, MoegsPipeline, ClipSet, list[int]]:
        """The run, what it shows and the frames that are asked for."""
        run = open_run(self.run)
        pipeline = load_pipeline(run)
        scene = scene_of(pipeline.model.kwargs)
        # Before responsibilities are measured, which takes a while.
        frames = chosen_frames(scene, self.frames, 1 if self.every is None else self.every)
        clip = clip_set(pipeline, str(run.config.method_name), self.max_views)
        return run, pipeline, clip, frames

    def write_sequence(self) -> None:
        """Write the PLY files that are not there yet."""
        run, pipeline, clip, frames = self.opened()
        poses = pipeline.datamanager.train_dataset.cameras.camera_to_worlds
        direction, words = up_direction(self.up, poses)
        turn = None if direction is None else turn_between(direction, torch.tensor(PLY_UP))
        sequence = PlySequence(
            shows=clip.what,
            checkpoint=f"{run.checkpoint_path.name} of {modified(run.checkpoint_path)}",
            up=words,
            frames=frames,
            times=[clip.time_of(frame) for frame in frames],
            fps=clip.scene.fps,
        )
        written, found = write_sequence(clip, sequence, turn, self.output_dir)
        earlier = f" ({found} were there already)" if found else ""
        placed = "" if direction is None else ", -y in the files"
        CONSOLE.print(
            f"{self.output_dir}: {written} PLY files written{earlier}, frames {frames[0]} to "
            f"{frames[-1]} of {clip.what}; {words}{placed}. {SEQUENCE_RECORD} tells what is there.",
            soft_wrap=True,
        )

    def write_page(self) -> None:
        """Write the player page."""
        run, pipeline, clip, frames = self.opened()
        dataset = pipeline.datamanager.train_dataset
        direction, words = up_direction(self.up, dataset.cameras.camera_to_worlds)
        assert direction is not None, self.up
        clip, remark = self.shown(clip)
        stage = Stage(
            cameras=physical_cameras(dataset, pipeline.device),
            up=direction,
            title=f"{run.config.method_name}: {run.config.experiment_name}",
            remark=remark,
        )
        report = write_page(clip, frames, self.every, stage, self.max_mb, self.output_dir)
        fewer = f" of {report.found:,}" if report.gaussians < report.found else ""
        CONSOLE.print(
            f"{report.path}: {report.megabytes:.2f} MB, {report.gaussians:,}{fewer} Gaussians of "
            f"{clip.what}, {report.moving:,} of them moving, {len(report.key_frames)} key frames; "
            f"{words}. {remark + ' ' if remark else ''}Open it in a browser.",
            soft_wrap=True,
        )

    def shown(self, clip: ClipSet) -> tuple[ClipSet, str]:
        """What a page plays, and a sentence if that is not what was asked for."""
        if self.mixture == "fused" or not isinstance(clip, FusedClip):
            return clip, ""
        reason = not_expressed(clip.mixture)
        if reason is None:
            return gated(clip), ""
        return clip, f"This is not the mixture itself, since {reason}."

    def write_compact(self) -> None:
        """Write the copy, print and write what it saves and costs."""
        output = self.output_dir
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise ValueError(
                f"Expected a new or empty folder for the copy, but {output} holds something; name "
                "another --output."
            )
        size, cost = write_compact(open_run(self.run), output, measure=self.measure)
        CONSOLE.print(
            f"{output / CONFIG_NAME}: {size.gaussians:,} Gaussians, {size.mb_before:.2f} "
            f"MB before, {size.mb_after:.2f} MB after, {size.mb_per_150k:.2f} MB per 150,000."
        )
        if cost.reason:
            CONSOLE.print(f"Held-out views were not rendered: {cost.reason}.")
        else:
            CONSOLE.print(
                f"{cost.views} held-out views: {cost.psnr_before:.3f} dB before, "
                f"{cost.psnr_after:.3f} dB after; {cost.near_share:.3%} of the pixels are within "
                f"{NEAR} of 255."
            )


def modified(path: Path) -> str:
    """When a file was last written, in UTC."""
    return datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).isoformat(timespec="seconds")
