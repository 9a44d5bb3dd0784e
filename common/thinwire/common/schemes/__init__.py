"""The registry of schemes: one file each, one line here."""

from __future__ import annotations

from thinwire.common.config import SchemeParameters
from thinwire.common.errors import ConfigError
from thinwire.common.schemes.base import Scheme
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.cloud_ar import CloudAr
from thinwire.common.schemes.dense_f16 import DenseF16
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs

SCHEMES: dict[str, type[Scheme]] = {
    KSqs.name: KSqs,
    CSqs.name: CSqs,
    DenseQs.name: DenseQs,
    CloudAr.name: CloudAr,
    DenseF16.name: DenseF16,
}


def scheme_names() -> tuple[str, ...]:
    """Names a client may ask for."""
    return tuple(SCHEMES)


def make_scheme(parameters: SchemeParameters, *, vocabulary_size: int) -> Scheme:
    """
    The scheme that `parameters` name, for a vocabulary of V ids.

    Raises:
        ConfigError: unknown name, or a parameter outside the scheme's own limits.
    """
    kind = SCHEMES.get(parameters.scheme)
    if kind is None:
        sentence = f"scheme is {parameters.scheme!r}; expected one of {', '.join(SCHEMES)}."
        raise ConfigError(sentence, setting="scheme")
    return kind(parameters, vocabulary_size=vocabulary_size)
