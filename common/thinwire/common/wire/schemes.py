"""
A scheme's parameters ↔ protobuf, by the names of fields.

The oneof's field is called like the scheme, with _ for -; a scheme without a message of its own goes as
`CustomScheme`.
"""

from __future__ import annotations

from thinwire.common.pb import verifier_pb2 as pb
from thinwire.common.schemes import (
    DEFAULT_SCHEME,
    SchemeParameters,
    find_scheme,
    parameters_of,
    read_values,
    scheme_parameters,
)
from thinwire.common.schemes.parameters import written

_CUSTOM = "custom"


def scheme_to_proto(parameters: SchemeParameters, *, decoding: bool) -> pb.Scheme:
    """The message of a scheme; with `decoding`, only what the cloud needs."""
    values = parameters.values(decoding=decoding)
    field = parameters.scheme.replace("-", "_")
    message = pb.Scheme()
    if field in pb.Scheme.DESCRIPTOR.fields_by_name and field != _CUSTOM:
        own = getattr(message, field)
        own.SetInParent()
        for name, value in values.items():
            setattr(own, name, value)
    else:
        message.custom.name = parameters.scheme
        message.custom.parameters.update({name: written(value) for name, value in values.items()})
    return message


def scheme_from_proto(message: pb.Scheme, *, decoding: bool, temperature: float = 1.0) -> SchemeParameters:
    """
    The parameters in a message; what is absent takes the scheme's default for the temperature.

    With `decoding` only what the cloud needs is read, and a scheme must be named.
    ConfigError for a scheme that this release does not know, or a value out of its range.
    """
    field = message.WhichOneof("parameters")
    if field is None:
        return scheme_parameters("" if decoding else DEFAULT_SCHEME, temperature)
    own = getattr(message, field)
    name = own.name if field == _CUSTOM else field.replace("_", "-")
    if field == _CUSTOM:
        given = read_values(name, own.parameters.items())
    else:
        given = {each.name: value for each, value in own.ListFields()}
    specs = (find_scheme(name).Parameters if decoding else parameters_of(name)).specs()
    asked = {key: value for key, value in given.items() if specs[key].decodes or not decoding}
    return scheme_parameters(name, temperature, **asked)
