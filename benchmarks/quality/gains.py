"""What mixtures gain over the best of their experts, seed by seed."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moegs_ns.reports.scores import Score


@dataclass(frozen=True)
class Pair:
    """A mixture beside the experts of the same seed."""

    mixture: Score
    experts: tuple[Score, ...]

    @property
    def members(self) -> str:
        """Its experts, joined by commas."""
        return ",".join(expert.method for expert in self.experts)

    @property
    def best(self) -> float:
        """PSNR of the best expert."""
        return max(expert.psnr for expert in self.experts)

    @property
    def router_share(self) -> float | None:
        """Time of the router's training over that of its experts; None if one is not known, or if
        all were trained together."""
        times = [expert.train_seconds for expert in self.experts]
        router = self.mixture.train_seconds
        if self.mixture.method == "moegs-joint" or router is None or None in times:
            return None
        return router / sum(time for time in times if time is not None)


def gain_rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """One row per mixture: means over seeds, and the spread (standard deviation) of the gain."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.mixture.method, pair.members), []).append(pair)
    return [_row(method, members, group) for (method, members), group in groups.items()]


def _row(method: str, members: str, group: Sequence[Pair]) -> dict[str, Any]:
    gains = [pair.mixture.psnr - pair.best for pair in group]
    oracles = [pair.mixture.psnr_oracle for pair in group if pair.mixture.psnr_oracle is not None]
    shares = [pair.router_share for pair in group if pair.router_share is not None]
    reasons = [
        *(["gain_spread: one seed"] if len(gains) == 1 else []),
        *(["oracle: one expert is its own"] if not oracles else []),
        *(["router_share: trained together, or times are unknown"] if not shares else []),
    ]
    return {
        "method": method,
        "experts": members,
        "n": len(group),
        "psnr": statistics.mean(pair.mixture.psnr for pair in group),
        "best_expert": statistics.mean(pair.best for pair in group),
        "gain": statistics.mean(gains),
        "gain_spread": statistics.stdev(gains) if len(gains) > 1 else None,
        "gain_min": min(gains),
        "gain_max": max(gains),
        "oracle": statistics.mean(oracles) if oracles else None,
        "router_share": statistics.mean(shares) if shares else None,
        "seeds": [pair.mixture.seed for pair in group],
        "reason": "; ".join(reasons),
    }
