"""Any convolutional network of timm that gives a pyramid of maps, with weights from the hub, a package or a file."""

from __future__ import annotations

import difflib
from typing import Literal, cast

import timm
from jaxtyping import Float
from pydantic import Field, field_validator
from timm.models import FeatureInfo
from torch import Tensor

from guidedmix_core.backbones import Backbone, Pyramid
from guidedmix_core.backbones._weights import (
    bundled_file,
    bundled_weights,
    file_digest,
    file_weights,
    hub_place,
    hub_weights,
    load,
)
from guidedmix_core.errors import ConfigError


class Timm(Backbone):
    """The network up to its last map. What timm has after it (a last convolution, the classifier) is left out."""

    model: str = Field(
        "resnet50",
        description="a name of timm.list_models(), with or without its tag; resnet50c.gluon_in1k is the V1c of mmseg",
    )
    output_stride: Literal[8, 16, 32] = Field(16, description="of the last map; what is not strided is dilated instead")
    weights: str = Field(
        "hub",
        description="hub: the Hugging Face hub (or its local cache); bundled: an installed package; none: random; "
        "anything else: the path of a state dict of this model (torch or safetensors)",
    )

    @field_validator("model")
    @classmethod
    def _is_known(cls, model: str) -> str:
        name, _, tag = model.partition(".")
        if not timm.is_model(name):
            close = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0)
            raise ValueError(f"timm has no model {name!r}; nearest: {', '.join(close)}")
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
        if tag and tag not in tags:
            raise ValueError(f"timm has no weights {tag!r} of {name}; available: {', '.join(tags)}")
        return model

    @property
    def mean(self) -> tuple[float, float, float]:
        return self._colors()[0]

    @property
    def std(self) -> tuple[float, float, float]:
        return self._colors()[1]

    def build(self) -> Pyramid:
        """ConfigError if the model gives no maps at this output stride."""
        return _Network(self.model, self.output_stride)

    def weights_digest(self) -> str | None:
        if self.weights == "none":
            return None
        if self.weights == "hub":
            return "/".join(hub_place(self.model))
        return file_digest(str(bundled_file(self.model)) if self.weights == "bundled" else self.weights)

    def load_weights(self, pyramid: Pyramid) -> None:
        """ConfigError if they can't be had, or are those of another model."""
        if self.weights == "none":
            return
        assert isinstance(pyramid, _Network)
        find = {"hub": hub_weights, "bundled": bundled_weights}.get(self.weights)
        source = find(self.model) if find else file_weights(self.weights)
        load(pyramid.maps, self.model, source, f"segmentor.backbone.weights={self.weights}")

    def _colors(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        if self.weights == "bundled":
            return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
        config = timm.get_pretrained_cfg(self.model)
        assert config is not None, self.model
        (red, green, blue), (red_std, green_std, blue_std) = config.mean, config.std
        return (red, green, blue), (red_std, green_std, blue_std)


class _Network(Pyramid):
    def __init__(self, model: str, output_stride: int) -> None:
        super().__init__()
        problem = f"segmentor.backbone: timm's {model} gives no pyramid of maps at output_stride={output_stride}"
        try:
            self.maps = timm.create_model(model, features_only=True, output_stride=output_stride)
        except (TypeError, RuntimeError, AssertionError) as error:  # timm has no single way to refuse
            raise ConfigError(f"{problem}: {error}") from error
        info = cast(FeatureInfo, self.maps.feature_info)
        self.channels = tuple(info.channels())
        self.strides = tuple(info.reduction())
        if self.strides[-1] != output_stride:
            raise ConfigError(f"{problem}, but at {self.strides}")

    def forward(self, image: Float[Tensor, "N C H W"]) -> list[Tensor]:
        return self.maps(image)
