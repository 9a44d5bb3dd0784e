"""
`python -m deploy.credentials`: what the services of docker-compose.yml need to trust each other.

Run once, by the service `certs`, as the user the daemons run as: an authority, a certificate pair and a token
for either end, and their files; what is there already stays.
One volume for both ends is a development set: each could read the other's key.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = Path("/run/credentials")
HOSTS = ("cloud", "edge", "10.78.0.2")
"""How the services dial each other; the last is the cloud's end of the link."""
TENANTS = {"cloud": "edge", "edge": "client"}
"""Whose token each daemon takes."""


def main(folder: Path = FOLDER) -> int:
    """Make what is missing; returns the exit code."""
    # Here and not above: the test on the host needs the names alone, and no package.
    from thinwire.cloud.certificates import NAMES, write_certificates
    from thinwire.cloud.token_file import add_token
    from thinwire.common.errors import ConfigError

    try:
        if not all((folder / name).exists() for name in NAMES):
            write_certificates(folder, HOSTS)
            print(f"certs: an authority and two pairs in {folder}, for {', '.join(HOSTS)}", flush=True)
        for role, tenant in TENANTS.items():
            path = folder / f"{role}-token"
            if not path.exists():
                token = add_token(str(folder / f"{role}-tokens.json"), tenant, {})
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(descriptor, "w", encoding="ascii") as file:
                    file.write(f"{token}\n")
                print(f"certs: a token of tenant {tenant} for the {role} in {path}", flush=True)
    except ConfigError as error:
        print(f"certs: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
