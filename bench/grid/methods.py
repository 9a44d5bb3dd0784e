"""
What is compared: streamed baselines, and any registered scheme of Thinwire.

A method's name is `NAME` or `NAME:FIELD=VALUE,...`; what the name fixes is not tuned.

    cloud-stream      the cloud streams the target's own tokens (our cached loop, no draft model)
    cloud-generate    the same with transformers' `generate`, what a user would do today
    cloud-assisted    transformers' assisted generation, both models in the cloud, streamed
    SCHEME            Thinwire with that scheme: k-sqs:K=8, c-sqs, dense-qs, dense-f16, cloud-ar, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.peers.messages import ASSISTED, GENERATE, OWN
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import SCHEMES, SchemeParameters, read_scheme, scheme_parameters

PEER_WAYS = {"cloud-stream": OWN, "cloud-generate": GENERATE, "cloud-assisted": ASSISTED}
DRAFT_LENGTHS = (1, 2, 4, 6, 8)
LATTICE_RESOLUTIONS = (25, 50, 100, 200, 400)
THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2)
SUPPORT_SIZES = (2, 3, 8, 32)
OWN_SCHEDULE = 0
"""A draft length of assisted generation: transformers' own schedule."""
DEFAULT_METHODS = (
    "cloud-stream",
    "cloud-generate",
    "cloud-assisted",
    "cloud-ar",
    "dense-f16",
    "dense-qs",
    "k-sqs:K=2",
    "k-sqs:K=3",
    "k-sqs:K=8",
    "k-sqs:K=32",
    "c-sqs",
)

Parameters = Mapping[str, Any]
"""draft_length, and fields of `SchemeParameters`, that are not at their defaults."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to get the text."""

    name: str
    way: str
    """Name of a scheme, or the peers' way."""
    is_peer: bool
    fixed: Parameters = field(default_factory=dict)
    """What the name says."""
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Parameter → values to try; what the name fixes is not among them."""

    def defaults(self) -> dict[str, Any]:
        """Parameters before any tuning."""
        start = {"draft_length": 4 if 4 in self.axes["draft_length"] else 1} if self.drafts_openly else {}
        return {**start, **self.fixed}

    @property
    def drafts_openly(self) -> bool:
        """Whether the draft length is tuned."""
        return "draft_length" in self.axes

    def scheme(self, temperature: float, parameters: Parameters) -> SchemeParameters:
        """Thinwire's scheme with these parameters; the others at their defaults for the temperature."""
        given = {name: value for name, value in parameters.items() if name != "draft_length"}
        return scheme_parameters(self.way, temperature, **given)

    def scheme_fields(self, temperature: float, parameters: Parameters) -> dict[str, Any]:
        """The same as JSON, every field, defaults included; of a peer nothing."""
        if self.is_peer:
            return {}
        scheme = self.scheme(temperature, parameters)
        return {"scheme": scheme.scheme, **scheme.values()}


def own_fields(kept: Mapping[str, Any]) -> dict[str, Any]:
    """A scheme's fields as a line has them; lines of older releases name those of every other scheme too."""
    own = SCHEMES[kept["scheme"]].Parameters.specs()
    return {name: value for name, value in kept.items() if name == "scheme" or name in own}


def parse_method(text: str) -> Method:
    """
    The method of a name.

    Raises:
        ConfigError: no such method or field.
    """
    name, _, rest = text.partition(":")
    if name not in PEER_WAYS and name not in SCHEMES:
        known = ", ".join((*PEER_WAYS, *SCHEMES))
        raise ConfigError(f"method is {name!r}; expected one of {known}.")
    fixed: dict[str, Any] = {}
    for part in rest.split(",") if rest else ():
        fixed |= _field(name, part, text)
    if name in PEER_WAYS:
        return _peer(text, name, fixed)
    axes = {axis: values for axis, values in _axes(name).items() if axis not in fixed}
    method = Method(text, name, is_peer=False, fixed=fixed, axes=axes)
    method.scheme(1.0, fixed)  # refuses what is out of range
    return method


def _peer(text: str, name: str, fixed: dict[str, Any]) -> Method:
    allowed = {"draft_length"} if name == "cloud-assisted" else set()
    if set(fixed) - allowed:
        raise ConfigError(f"method is {text!r}; expected nothing behind the name but {allowed or 'nothing'}.")
    axes = {"draft_length": (*DRAFT_LENGTHS, OWN_SCHEDULE)} if allowed - set(fixed) else {}
    return Method(text, PEER_WAYS[name], is_peer=True, fixed=fixed, axes=axes)


def _axes(scheme: str) -> dict[str, tuple[Any, ...]]:
    """What can be tuned of a scheme; one that nobody told this module of is tuned in its draft length."""
    if SCHEMES[scheme].max_draft_length == 0:
        return {}
    axes: dict[str, tuple[Any, ...]] = {"draft_length": DRAFT_LENGTHS}
    if scheme in ("k-sqs", "c-sqs", "dense-qs"):
        axes["lattice_resolution"] = LATTICE_RESOLUTIONS
    if scheme == "k-sqs":
        axes["support_size"] = SUPPORT_SIZES
    if scheme == "c-sqs":
        axes["initial_threshold"] = THRESHOLDS
    return axes


def _field(name: str, part: str, text: str) -> dict[str, Any]:
    """A parameter and its value: gamma is the draft length, the others are the scheme's own."""
    word, _, value = part.partition("=")
    if word not in ("gamma", "draft_length"):
        if name in PEER_WAYS:
            raise ConfigError(f"method is {text!r}; expected no parameter of a scheme.")
        return read_scheme(f"{name}:{part}")[1]
    if not value.isdecimal():
        raise ConfigError(f"method is {text!r}; expected a whole number after gamma.")
    return {"draft_length": int(value)}
