"""The front door of the training core: the only names that others import."""

from guidedmix_core.building import sees_batches
from guidedmix_core.checkpoint import Checkpoints
from guidedmix_core.components import Component, Config, find, names
from guidedmix_core.config import RunConfig
from guidedmix_core.datasets import Classes, Dataset, Part, Record
from guidedmix_core.errors import ConfigError, Preempted, TrialFailed, nearest
from guidedmix_core.evaluation import Panel
from guidedmix_core.fields import Size, Tuple
from guidedmix_core.files import sync_folder, write_whole
from guidedmix_core.loaders import RunData, open_data
from guidedmix_core.metrics import BY_CLASS, METRICS
from guidedmix_core.prediction import evaluate_checkpoint, overlay_mask, palette_image, predict
from guidedmix_core.probing import Cost, probe
from guidedmix_core.reports import Report, Reporter, Result, StageReport
from guidedmix_core.schema import build, digest, dump, explain, fingerprint, flatten, json_schema
from guidedmix_core.sources import (
    override,
    parse,
    parse_changes,
    parse_value,
    put,
    read_run,
    read_yaml,
    resolve,
    search_spaces,
)
from guidedmix_core.stage_folder import StageFolder
from guidedmix_core.stages import address as stage_address
from guidedmix_core.stages import lineage
from guidedmix_core.trainer import train
from guidedmix_core.trees import Tree

__all__ = [
    "BY_CLASS",
    "METRICS",
    "Checkpoints",
    "Classes",
    "Component",
    "Config",
    "ConfigError",
    "Cost",
    "Dataset",
    "Panel",
    "Part",
    "Preempted",
    "Record",
    "Report",
    "Reporter",
    "Result",
    "RunConfig",
    "RunData",
    "Size",
    "StageFolder",
    "StageReport",
    "Tree",
    "TrialFailed",
    "Tuple",
    "build",
    "digest",
    "dump",
    "evaluate_checkpoint",
    "explain",
    "find",
    "fingerprint",
    "flatten",
    "json_schema",
    "lineage",
    "names",
    "nearest",
    "open_data",
    "overlay_mask",
    "override",
    "palette_image",
    "parse",
    "parse_changes",
    "parse_value",
    "predict",
    "probe",
    "put",
    "read_run",
    "read_yaml",
    "resolve",
    "search_spaces",
    "sees_batches",
    "stage_address",
    "sync_folder",
    "train",
    "write_whole",
]
