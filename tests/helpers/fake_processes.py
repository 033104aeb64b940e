"""Stands for the processes of trainings."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from moegs_ns.launch import jobs as trainings


class FakeProcesses:
    """Notes what runs beside what; trainings whose seed is in `failing` fail."""

    def __init__(self, monkeypatch, failing: Sequence[int] = ()) -> None:
        self.running, self.most, self.places, self.failing = 0, 0, [], failing
        self.ended: list[int] = []
        self.variables: list[dict[str, str]] = []
        self.lock = threading.Lock()
        monkeypatch.setattr(trainings, "run_module", self.run)
        monkeypatch.setattr(trainings, "progress_of", self.progress_of)

    def run(
        self,
        words: Sequence[str],
        place: int = 0,
        log: Path | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> int:
        seed = int(words[words.index("--machine.seed") + 1])
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.places.append(place)
            self.variables.append(dict(variables))
        time.sleep(0.05)
        with self.lock:
            self.running -= 1
            self.ended.append(seed)
        assert log is not None
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("why it failed")
        return 1 if seed in self.failing else 0

    def progress_of(self, folder: Path) -> trainings.Progress:
        return trainings.Progress(is_finished=int(folder.name.split("-")[1]) in self.ended)
