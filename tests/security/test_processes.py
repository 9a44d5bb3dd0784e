"""Both daemons as a user starts them, with certificates and tokens: SIGHUP, and what they say."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from daemon_processes import Daemon, daemon, stopped
from loopback import make_request
from model.checkpoints import save_checkpoint
from security.credentials import Certificates, Tokens
from thinwire.cloud.token_file import revoke_tokens
from thinwire.common import wire
from thinwire.common.door.tenants import read_tenants
from thinwire.common.errors import UnauthenticatedError
from thinwire.edge.client import AsyncClient, connect


async def test_a_token_revoked_by_sighup_ends_a_text_and_is_in_no_output(tmp_path: Path) -> None:
    """
    Real processes, the cloud off loopback: TLS and a token let a text run, SIGHUP ends it at its next round.

    A token file that is not good changes nothing before that.
    """
    target, draft = (
        save_checkpoint(tmp_path / role, "Llama", seed=seed) for role, seed in (("target", 1), ("draft", 2))
    )
    certificates, tokens = Certificates.make(tmp_path / "certificates"), Tokens(tmp_path / "tokens.json")
    # So slow that the text is surely not over when its token is revoked.
    token = tokens.add("acme", rounds_per_s=4.0)
    folder = certificates.folder
    protected = ("--tls-cert", str(folder / "cloud.pem"), "--tls-key", str(folder / "cloud.key"))
    async with daemon(
        tmp_path,
        *("thinwire.cloud", "serve", "--model", target, *protected, "--tokens", str(tokens.path)),
        listen="0.0.0.0:0",
    ) as cloud:
        address = await cloud.address()
        dial = ("--cloud", address, "--cloud-ca", str(folder / "ca.pem"))
        async with (
            daemon(
                tmp_path,
                *("thinwire.edge", "edge", "--model", draft, *dial),
                THINWIRE_TOKEN=token,
            ) as edge,
            connect(await edge.address(), event_timeout_s=60) as client,
        ):
            await cloud.says("serving")
            await edge.says("serving")
            before = await client.status(timeout_s=5)
            seen = await revoked_in_mid_text(client, cloud, tokens)
            after = await client.status(timeout_s=5)
        assert await stopped(edge) == 0
        async with wire.open_channel(address, certificates.client()) as channel:
            assert await wire.is_serving(channel, wire.VERIFIER_SERVICE, timeout_s=5)
    assert await stopped(cloud) == 0

    assert before.cloud_info is not None
    assert before.cloud_security == "TLS"
    assert before.cloud_info.listener_security == "TLS, with tokens"
    assert before.listener_security == "plaintext on loopback, without tokens"
    assert seen >= 3
    assert after.cloud_failure.startswith("UNAUTHENTICATED: ")
    assert "listening on 0.0.0.0" in cloud.log
    assert "(TLS, with tokens)" in cloud.log
    assert "WARNING" not in cloud.log + edge.log
    assert token not in cloud.log + edge.log


async def revoked_in_mid_text(client: AsyncClient, cloud: Daemon, tokens: Tokens) -> int:
    """Revoke once three tokens have come, after a bad file; returns how many came until the refusal."""
    good = tokens.path.read_text()
    (digest,) = (await asyncio.to_thread(read_tenants, str(tokens.path)))["acme"].token_sha256
    seen: list[int] = []

    async def read() -> None:
        async for event in client.events(make_request("abc", max_tokens=100, ignore_eos=True)):
            if isinstance(event, tuple):
                seen.extend(token.token_id for token in event)
            if len(seen) >= 3 and tokens.path.read_text() == good:
                tokens.path.write_text("{")
                cloud.signal(signal.SIGHUP)
                await cloud.says("the tokens stay as they were: the token file")
                tokens.path.write_text(good)
                revoke_tokens(str(tokens.path), "acme")
                cloud.signal(signal.SIGHUP)
                await cloud.says("the tokens were read again: 1 tenants")

    # In answer to a round, or to the stream on which one that was put off would have come again.
    with pytest.raises(UnauthenticatedError, match=r"the token (was revoked|is nobody's)"):
        await read()
    assert digest not in cloud.log
    return len(seen)
