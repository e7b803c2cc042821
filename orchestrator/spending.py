"""What runs took: the time of GPUs and its price where they used GPUs, else the time they trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.folder import StudyFolder, read_json


@dataclass(frozen=True)
class Spending:
    """Of one study's runs."""

    gpus: float
    """Of a run, all its workers together; 0 on the CPU."""
    price_per_gpu_hour: float | None
    currency: str

    def gpu_hours(self, seconds: float) -> float | None:
        """None of runs that use none."""
        return seconds * self.gpus / 3600 if self.gpus else None

    def price(self, seconds: float) -> float | None:
        """None if it is not known."""
        hours = self.gpu_hours(seconds)
        return None if hours is None or self.price_per_gpu_hour is None else hours * self.price_per_gpu_hour

    def words(self, seconds: float) -> str:
        """`3.4 GPU-hours, 8.50 USD`; empty of runs that use no GPU."""
        hours, price = self.gpu_hours(seconds), self.price(seconds)
        if hours is None:
            return ""
        return f"{hours:.2g} GPU-hours" + ("" if price is None else f", {price:,.2f} {self.currency}")


def spending(folder: StudyFolder, request: Mapping[str, Any]) -> Spending:
    """As `study.yaml` has the GPUs, and `provenance.json` the price where the study was begun."""
    scaling = request.get("scaling") or {}
    made = read_json(folder.provenance) if folder.provenance.exists() else {}
    price = made.get("price") or {}
    gpus = scaling.get("workers", 1) * scaling.get("gpus_per_worker", 0)
    return Spending(gpus, price.get("per_gpu_hour"), price.get("currency", ""))
