"""A study folder as a search leaves it, twelve trials and two references: only its records, nothing is trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

CLASSES = ("sky", "building", "pole", "road", "sidewalk", "tree", "car", "cyclist")
PALETTE = (
    (128, 168, 200),
    (128, 64, 64),
    (192, 192, 128),
    (128, 64, 128),
    (230, 140, 200),
    (96, 128, 32),
    (64, 32, 160),
    (0, 128, 192),
)
STEPS, EVERY = 2000, 200
PARAMETERS = {
    "method.threshold": {"when": {}, "uniform": [0.5, 0.99]},
    "method.mix.lambda_max": {"uniform": [0.1, 0.5]},
    "optim.lr": {"log": [0.001, 0.1]},
    "method.mitrans.depth": {"when": {"method.mix.at": ["context"]}, "int": [0, 3]},
    "method.mix.at": {"choice": ["image", "context"]},
}
ENDS = {3: "stopped", 6: "stopped", 8: "failed", 9: "stopped", 11: "running"}
MESSAGE = "the loss is not finite from step 731 on <script>alert('x')</script> & more"


def write_study(
    path: Path, *, trials: int = 12, kind: str = "tune", objectives: int = 1, pseudo: bool = True, panels: int = 3
) -> Path:
    """The folder at `path`. Trial 8 fails, trials 3, 6 and 9 are stopped at a rung, trial 11 is still running."""
    rng = np.random.default_rng(7)
    goals = [{"metric": "val/miou", "mode": "max"}, {"metric": "pseudo/coverage", "mode": "max"}][:objectives]
    write_request(path, kind, trials, goals)
    events = [{"time": _time(0), "event": "study_started", "kind": kind}]
    if kind == "tune":
        write_trial(
            path, -2, "reference", "supervised", {"method.name": "supervised"}, 0.571, "complete", rng, None, panels
        )
        write_trial(
            path, -1, "reference", "mean_teacher", {"method.name": "mean_teacher"}, 0.587, "complete", rng, 0.75, panels
        )
    for number in range(trials):
        params = _draw(rng) if kind == "tune" else {}
        quality = 0.9 if pseudo and params.get("method.threshold", 1) > 0.6 else 0.72
        state = ENDS.get(number, "complete") if kind == "tune" else "complete"
        state = "complete" if objectives > 1 and state == "stopped" else state
        score = _score(params) * (0.8 if state == "stopped" else 1)
        write_trial(path, number, "trial", None, params, score, state, rng, quality if pseudo else None, panels)
        events.append(
            {
                "time": _time(number),
                "event": "asked",
                "role": "trial",
                "number": number,
                "params": params,
                "fingerprint": _fingerprint(number),
            }
        )
    events.append({"time": _time(13), "event": "study_ended"})
    (path / "journal.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return path


def write_request(path: Path, kind: str, planned: int, goals: list[dict[str, str]]) -> None:
    """`study.yaml` and `provenance.json`, with no trial yet."""
    path.mkdir(parents=True)
    request: dict[str, Any] = {
        "identity": "2f6c0a9d1e5b7348",
        "kind": kind,
        "planned": planned + 2 * (kind == "tune"),
        "objectives": goals,
    }
    if kind == "tune":
        search = {"sampler": "tpe", "trials": planned, "seed": 0}
        scheduler = {"name": "asha", "first_rung": 0.25, "eta": 3}
        request |= {"base": "guidedmix_camvid", "parameters": PARAMETERS, "search": search, "scheduler": scheduler}
    (path / "study.yaml").write_text(yaml.safe_dump(request, sort_keys=False))
    provenance = _environment(f"guidedmix {kind} guidedmix_camvid --executor ray".split())
    (path / "provenance.json").write_text(json.dumps(provenance))


def write_trial(
    path: Path,
    number: int,
    role: str,
    label: str | None,
    params: dict[str, Any],
    score: float,
    state: str,
    rng: np.random.Generator,
    quality: float | None,
    panels: int = 0,
) -> Path:
    """One trial's records. `quality` is the accuracy its pseudo masks reach; None: the method has none."""
    trial = path / "trials" / _fingerprint(number)
    trial.mkdir(parents=True)
    last = {"complete": STEPS, "stopped": 600, "failed": 600, "running": 1000}[state]
    asked = {
        "fingerprint": trial.name,
        "number": number,
        "role": role,
        "label": label,
        "params": params,
        "seed": 0,
        "steps": STEPS,
    }
    (trial / "trial.json").write_text(json.dumps(asked))
    rows = [
        {
            "step": step,
            "time": _time(number + step / STEPS),
            **_metrics(step, score, rng, quality, params.get("method.threshold", 0.95)),
        }
        for step in range(EVERY, last + 1, EVERY)
    ]
    (trial / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = {
        "seed": 0,
        "method": {"name": label or "guidedmix"},
        "train": {"steps": STEPS},
        "evaluate": {"part": "val", "every": EVERY},
    }
    (trial / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (trial / "environment.json").write_text(
        json.dumps({**_environment(["ray::trial"]), "data": "9b1f63c2a7d04e58", "restarts": []})
    )
    if state == "running":
        return trial
    (trial / "result.json").write_text(json.dumps(_result(trial.name, number, state, rows)))
    if state == "complete":
        _write_panels(trial / "panels", panels, score)
    return trial


def _result(fingerprint: str, number: int, state: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    metrics = {key: value for key, value in rows[-1].items() if key not in ("step", "time")}
    peak = max(rows, key=lambda row: row["val/miou"])
    return {
        "fingerprint": fingerprint,
        "state": state,
        "objective": None if state == "failed" else metrics["val/miou"],
        "step": 731 if state == "failed" else rows[-1]["step"],
        "steps": STEPS,
        "seconds": metrics["time/seconds"],
        "metrics": metrics,
        "best": {
            "step": peak["step"],
            "metrics": {key: value for key, value in peak.items() if key not in ("step", "time")},
        },
        "failure": {"reason": "diverged", "message": MESSAGE, "step": 731} if state == "failed" else None,
        "started": _time(number),
        "ended": _time(number + rows[-1]["step"] / STEPS),
    }


def _metrics(
    step: int, score: float, rng: np.random.Generator, quality: float | None, threshold: float
) -> dict[str, float | None]:
    share = step / STEPS
    grown = (1 - math.exp(-4.5 * share)) / (1 - math.exp(-4.5))
    miou = float(score * grown + rng.normal(0, 0.006 if share < 1 else 0))
    spread = np.array([0.30, 0.18, -0.32, 0.28, 0.08, 0.14, 0.05, -0.30])
    iou = np.clip(miou + spread * (0.5 + grown / 2) + rng.normal(0, 0.015, len(CLASSES)), 0.01, 0.98)
    metrics: dict[str, float | None] = {"val/miou": miou, "val/accuracy": min(miou + 0.27, 0.97)}
    metrics |= {f"val/iou/{name}": float(value) for name, value in zip(CLASSES, iou, strict=True)}
    metrics |= {"train/loss": 2.1 - 1.6 * grown + float(rng.normal(0, 0.02)), "train/lr": 0.01 * (1 - share) ** 0.9}
    metrics |= {"time/seconds": 1.5 * step / 10 * (1 + 0.1 * score), "time/images_per_second": 106.0}
    if quality is not None:
        target, plain = quality * grown, 0.80 * grown
        metrics |= {
            "pseudo/coverage": (0.35 + 0.5 * share) * (1.5 - threshold),
            "pseudo/precision": 0.6 + 0.35 * grown * quality,
            "pseudo/recall": 0.6 * grown * quality,
        }
        metrics |= {"pseudo/target_accuracy": target, "pseudo/plain_accuracy": plain}
        metrics |= {
            f"pseudo/precision/{name}": float(value)
            for name, value in zip(CLASSES, np.clip(iou + 0.1, 0, 1), strict=True)
        }
        metrics |= {
            f"pseudo/recall/{name}": float(value)
            for name, value in zip(CLASSES, np.clip(iou - 0.05, 0, 1), strict=True)
        }
    return metrics


def _draw(rng: np.random.Generator) -> dict[str, Any]:
    at = ["image", "context"][int(rng.integers(2))]
    params = {
        "method.threshold": round(float(rng.uniform(0.5, 0.99)), 4),
        "optim.lr": float(10 ** rng.uniform(-3, -1)),
        "method.mix.at": at,
    }
    params |= {"method.mitrans.depth": int(rng.integers(4))} if at == "context" else {}
    return {**params, "method.mix.lambda_max": round(float(rng.uniform(0.1, 0.5)), 4)}


def _score(params: dict[str, Any]) -> float:
    """Best near lr 0.01; a higher threshold helps a little."""
    if not params:
        return 0.604
    return 0.615 - 0.11 * (math.log10(params["optim.lr"]) + 1.8) ** 2 + 0.12 * (params["method.threshold"] - 0.8)


def _write_panels(folder: Path, count: int, score: float) -> None:
    folder.mkdir()
    colors = [channel for color in PALETTE for channel in color]
    for i in range(count):
        truth = _street(np.random.default_rng(i))
        prediction = _wrong(truth, np.random.default_rng(round(score * 1e6) + i), 1 - score)
        photo = np.array(PALETTE, dtype=np.float64)[np.where(truth == 255, 3, truth)] * 0.55 + 70
        photo += np.random.default_rng(i).normal(0, 9, (*truth.shape, 1))
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(folder / f"scene_{i:04d}_image.png")
        for name, mask in (("prediction", prediction), ("truth", truth)):
            picture = Image.fromarray(mask.astype(np.uint8))
            picture.putpalette(colors + [0] * (765 - len(colors)) + [255, 255, 255])
            picture.save(folder / f"scene_{i:04d}_{name}.png")


def _street(rng: np.random.Generator, height: int = 120, width: int = 160) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.int64)
    edges = np.sort(rng.integers(0, width, 5))
    tops = rng.integers(15, 50, 6)[np.searchsorted(edges, x[0])]
    mask[y > tops] = 1
    for center in rng.integers(0, width, 3):
        mask[(x - center) ** 2 + (y - 52) ** 2 < rng.integers(120, 420)] = 5
    middle = int(rng.integers(60, 100))
    mask[(y > 66) & (abs(x - middle) < (y - 58) * 2.1)] = 4
    mask[(y > 66) & (abs(x - middle) < (y - 60) * 1.4)] = 3
    for left in rng.integers(5, width - 5, 2):
        mask[20:74, left : left + 2] = 2
    for left, size in zip(rng.integers(10, width - 45, 2), rng.integers(14, 30, 2), strict=True):
        mask[88 - size // 2 : 88, left : left + size] = 6
    mask[70:92, int(rng.integers(20, 130)) :][:, :5] = 7
    mask[-4:] = 255
    return mask


def _wrong(truth: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Small things vanish and borders move, the more the larger the share."""
    prediction = np.where(truth == 255, 3, truth)
    for _ in range(int(80 * share)):
        top, left = int(rng.integers(0, 110)), int(rng.integers(0, 150))
        dy, dx = rng.integers(-5, 6, 2)
        patch = np.roll(prediction, (int(dy), int(dx)), (0, 1))[top : top + 14, left : left + 14]
        prediction[top : top + 14, left : left + 14] = patch
    return prediction


def _fingerprint(number: int) -> str:
    return f"{(number + 2) * 0x1F35D1C7A9E3B5 + 0x9E3779B97F4A7C15:016x}"[-16:]


def _environment(command: list[str]) -> dict[str, Any]:
    git = {"sha": "a87c8e1f00d54b1c9f2e61b7a3d8c5e4f6a7b8c9", "dirty": True, "diff": "5be1c02d77a9f310"}
    packages = {
        "mlflow": "3.17.2",
        "numpy": "2.4.1",
        "optuna": "5.0.0",
        "pillow": "12.0.0",
        "ray": "2.60.0",
        "timm": "1.0.22",
        "torch": "2.15.0",
    }
    return {
        "time": _time(0),
        "host": "gpu-07",
        "platform": "Linux-6.8-x86_64",
        "python": "3.11.9",
        "command": command,
        "torch": "2.15.0",
        "cuda": "12.8",
        "device": "NVIDIA H200",
        "cpus": 16,
        "threads": 8,
        "git": git,
        "packages": packages,
        "data": None,
    }


def _time(hours: float) -> str:
    return f"2026-03-{4 + int(hours // 24):02d}T{int(hours % 24):02d}:{int(hours * 60 % 60):02d}:00.000+00:00"
