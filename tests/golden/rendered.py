"""Files that clusters are made of, as text: `python -m tests.golden.rendered` writes them to `rendered/` anew.

A change here is a change of what is sent to somebody's cloud. Read it.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from orchestrator.clusters import filled_cluster

FOLDER = Path(__file__).with_name("rendered")
PACKAGE = "package=dist/guidedmix.whl"
CLUSTERS: dict[str, list[str]] = {
    "aws": [
        "image=ami-0123456789abcdef0",
        "instance_profile=arn:aws:iam::123456789012:instance-profile/guidedmix",
        "storage=s3://lab/studies",
        "secrets=[MLFLOW_TRACKING_TOKEN]",
        PACKAGE,
    ],
    "gcp": ["project=lab", "image=projects/lab/global/images/family/gpu", "storage=gs://lab/studies", PACKAGE],
    "azure": ["nfs=lab.file.core.windows.net:/lab/studies", PACKAGE],
    "kuberay": [
        "image=registry.lab/guidedmix:1",
        "storage_class=nfs",
        "secrets=[MLFLOW_TRACKING_TOKEN]",
        "environment={TZ: UTC}",
        PACKAGE,
    ],
    "slurm": ["nodes=2", "gpu_type=a100", "partition=gpu", "secrets=[MLFLOW_TRACKING_TOKEN]", "environment={TZ: UTC}"],
    "skypilot": ["nodes=2", "storage=s3://lab/studies", "secrets=[MLFLOW_TRACKING_TOKEN]", PACKAGE],
}
COMMAND = ["guidedmix", "ablate", "ablation/demo", "--study", "/mnt/studies/my demo"]


def rendered(name: str) -> dict[str, str]:
    """The shipped cluster of that name, by file; Ray's version, which changes with each upgrade, is left out."""
    files = filled_cluster(name, CLUSTERS[name]).render(COMMAND)
    return {file: text.replace(f"rayVersion: {version('ray')}", "rayVersion: RAY") for file, text in files.items()}


if __name__ == "__main__":
    for name in CLUSTERS:
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in rendered(name).items():
            (folder / file).write_text(text)
