"""`moegs export`: copies of runs; so far compact ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.launch.cli_args import output_option
from moegs_ns.reports.compact_export import NEAR, write_compact
from moegs_ns.runs.checkpoint import CONFIG_NAME, open_run


@dataclass
class Export:
    """Copy a run in a form for other places. `--compact` makes a small run that is opened like any
    other, but whose training cannot go on."""

    run: Annotated[Path, tyro.conf.Positional]
    """config.yml or folder of the run."""
    output_dir: Annotated[Path, output_option("--output-dir")]
    """Folder to make for the copy."""
    compact: bool = False
    """Leave out the state of the optimisers, store 16 bits for geometry and 8 for colours."""
    measure: bool = True
    """Render held-out views before and after, where the data set is at hand."""

    def main(self) -> None:
        """Write the copy, print and write what it saves and costs."""
        if not self.compact:
            raise ValueError(
                "moegs export expects the kind of copy to make and knows one, compact runs; add "
                "--compact."
            )
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
