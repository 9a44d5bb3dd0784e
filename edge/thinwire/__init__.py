"""
Thinwire: exact large-model text over a thin link.

The repository has three roots of it (`common/`, `edge/`, `cloud/`), each installed into this one name.
This file belongs to the edge: a cloud alone needs no face.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
