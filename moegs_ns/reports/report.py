"""The report of runs: scores on the terminal, in files, and as a page."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from nerfstudio.utils.rich_utils import CONSOLE

from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.reports.page import write_page
from moegs_ns.reports.run_section import RunSection, names_of, run_section
from moegs_ns.reports.scores import folders_of, print_scores, score_runs, write_table
from moegs_ns.reports.windows import joined_run, load_windows
from moegs_ns.runs.checkpoint import Run

PAGE = ".html"
FILES = (".json", ".md", PAGE)
FOLDER_NAME = "report"
"""What the files of a report in a folder are called."""


def report_paths(output: Path | None) -> tuple[Path | None, Path | None]:
    """The table (JSON, a Markdown one beside it) and the page that `--output` asks for: a file by
    its ending, or all of them in a folder.

    Raises:
        ValueError: it is neither.
    """
    if output is None:
        return None, None
    suffix = output.suffix.lower()
    if suffix == "" or (output.is_dir() and suffix not in FILES):
        output, suffix = output / f"{FOLDER_NAME}{PAGE}", PAGE
    if suffix not in FILES:
        raise ValueError(
            f"--output expects the name of a {', '.join(FILES)} file or of a folder for all of "
            f"them, got {output}."
        )
    return output.with_suffix(".json"), output if suffix == PAGE else None


def report_runs(rows: Sequence[tuple[Run, ...]], output: Path | None) -> None:
    """Score runs and print the table; write what `output` asks for, see `report_paths`. Each row is
    that of one run, or of runs of consecutive windows as one expert.

    Runs on data of which nothing is held out have no scores; their other figures are told.

    Raises:
        ValueError: `output` is no name for a report.
    """
    table, page = report_paths(output)
    scores, sections = [], []
    for index, runs in enumerate(rows, start=1):
        CONSOLE.print(f"Scoring {folders_of(runs)} ({index} of {len(rows)})")
        run = runs[0] if len(runs) == 1 else joined_run(runs)
        pipeline = load_pipeline(run) if len(runs) == 1 else load_windows(run, runs)
        scores.append(score_runs(runs, run, pipeline))
        if page is not None:
            sections.append(run_section(run, pipeline, scores[-1], name=""))
    print_scores(scores)
    if table is None:
        return
    about = write_table(table, [asdict(score) for score in scores])
    written = [table, table.with_suffix(".md")]
    if page is not None:
        write_page(page, _named(sections), about)
        written.insert(0, page)
    CONSOLE.print("Written: " + ", ".join(map(str, written)), soft_wrap=True)


def _named(sections: Sequence[RunSection]) -> list[RunSection]:
    names = names_of([section.score for section in sections])
    return [replace(s, name=name) for s, name in zip(sections, names, strict=True)]
