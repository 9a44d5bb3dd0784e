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
from dataclasses import dataclass
from typing import Any

from bench.peers.messages import ASSISTED, GENERATE, OWN
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import SCHEMES, SchemeParameters, read_scheme, scheme_parameters
from thinwire.common.session.generation import OBJECTIVES, GenerationRequest

PEER_WAYS = {"cloud-stream": OWN, "cloud-generate": GENERATE, "cloud-assisted": ASSISTED}
DEFAULT_METHODS = (
    *PEER_WAYS,
    *("cloud-ar", "dense-f16", "dense-qs", "k-sqs:K=2", "k-sqs:K=3", "k-sqs:K=8", "k-sqs:K=32", "c-sqs"),
)
OWN_SCHEDULE = 0
"""A draft length of assisted generation: transformers' own schedule."""
OF_THE_REQUEST = ("draft_length", "objective")
"""Parameters that are no scheme's."""
_LENGTHS = (1, 2, 4, 6, 8)
_LATTICE = {"lattice_resolution": (25, 50, 100, 200, 400)}
_AXES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "cloud-assisted": {"draft_length": (*_LENGTHS, OWN_SCHEDULE)},
    "dense-qs": _LATTICE,
    "k-sqs": {**_LATTICE, "support_size": (2, 3, 8, 32)},
    "c-sqs": {**_LATTICE, "initial_threshold": (0.01, 0.02, 0.05, 0.1, 0.2)},
}
"""
What can be tuned, and the values to try; of every scheme that drafts also the draft length, but for one whose
cloud may write by itself, which settles for itself how far to draft.
"""

Parameters = Mapping[str, Any]
"""draft_length, objective, and fields of `SchemeParameters`, that are not at their defaults."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to get the text."""

    name: str
    way: str
    """Name of a scheme, or the peers' way."""
    is_peer: bool
    fixed: Parameters
    """What the name says."""
    axes: Mapping[str, tuple[Any, ...]]
    """Parameter → values to try; what the name fixes is not among them."""

    def defaults(self) -> dict[str, Any]:
        """Parameters before any tuning."""
        return {**({"draft_length": 4} if self.drafts_openly else {}), **self.fixed}

    @property
    def drafts_openly(self) -> bool:
        """Whether the draft length is tuned."""
        return "draft_length" in self.axes

    def scheme(self, temperature: float, parameters: Parameters) -> SchemeParameters:
        """Thinwire's scheme with these parameters; the others at their defaults for the temperature."""
        given = {name: value for name, value in parameters.items() if name not in OF_THE_REQUEST}
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
    is_peer = name in PEER_WAYS
    if not is_peer and name not in SCHEMES:
        known = ", ".join((*PEER_WAYS, *SCHEMES))
        raise ConfigError(f"method is {name!r}; expected one of {known}.")
    axes = dict(_AXES.get(name, {}))
    fixed: dict[str, Any] = {}
    if not is_peer and SCHEMES[name].may_run_free:
        fixed["draft_length"] = GenerationRequest("").draft_length
    elif not is_peer and SCHEMES[name].max_draft_length > 0:
        axes = {"draft_length": _LENGTHS, **axes}
    for part in rest.split(",") if rest else ():
        word, _, value = part.partition("=")
        if word == "objective" and value in OBJECTIVES and not is_peer and SCHEMES[name].may_run_free:
            fixed["objective"] = value
        elif word not in ("gamma", "draft_length"):
            if is_peer:
                raise ConfigError(f"method is {text!r}; expected no parameter of a scheme.")
            fixed |= read_scheme(f"{name}:{part}")[1]
        elif is_peer and "draft_length" not in axes:
            raise ConfigError(f"method is {text!r}; expected nothing behind the name, as it drafts nothing.")
        elif not value.isdecimal():
            raise ConfigError(f"method is {text!r}; expected a whole number after gamma.")
        else:
            fixed["draft_length"] = int(value)
    way = PEER_WAYS.get(name, name)
    method = Method(text, way, is_peer, fixed, {axis: axes[axis] for axis in axes if axis not in fixed})
    if not is_peer:
        method.scheme(1.0, fixed)  # refuses what is out of range
    return method
