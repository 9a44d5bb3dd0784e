"""`thinwire-cloud token TENANT --file FILE`: draw a token, or revoke a tenant's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from thinwire.common.door.tenants import (
    Quotas,
    Tenant,
    new_token,
    read_tenants,
    token_digest,
    write_tenants,
)
from thinwire.common.door.whole_file import locked
from thinwire.common.errors import ConfigError


def add_token(path: str, name: str, quotas: Mapping[str, Any]) -> str:
    """
    Draw a token for a tenant, beside those it has; returns the token, which is nowhere else.

    Args:
        path: the token file; made if it is not there.
        name: a new tenant, or one in the file.
        quotas: by field name of `Quotas`; what is left out stays as it is.

    Raises:
        ConfigError: the file is not what it should be or cannot be written, or a value is out of its range.
    """
    new = Tenant(name, ())
    token = new_token()
    with locked(path):
        tenants = read_tenants(path) if os.path.exists(path) else {}
        tenant = tenants.get(name, new)
        digests = (*tenant.token_sha256, token_digest(token))
        changed = Quotas(**{**asdict(tenant.quotas), **quotas})
        tenants[name] = replace(tenant, token_sha256=digests, quotas=changed)
        write_tenants(path, tenants)
    return token


def revoke_tokens(path: str, name: str) -> int:
    """
    Take every token from a tenant, which stays with its quotas; returns how many it had.

    ConfigError if the file is not what it should be, or has no such tenant.
    """
    with locked(path):
        tenants = read_tenants(path)
        if name not in tenants:
            known = ", ".join(tenants) or "none, as the file has no tenants"
            raise ConfigError(f"tenant is {name!r}; expected one of {known}.")
        count = len(tenants[name].token_sha256)
        tenants[name] = replace(tenants[name], token_sha256=())
        write_tenants(path, tenants)
    return count
