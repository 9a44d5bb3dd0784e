"""What is refused before anything listens, and what the commands for certificates and tokens leave behind."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography import x509

from security.credentials import Certificates, Tokens
from thinwire.cloud.certificates import NAMES
from thinwire.cloud.cli import main as cloud_main
from thinwire.common.door.peers import is_loopback
from thinwire.common.door.security import (
    ClientSecurity,
    LinkSecurity,
    ServerSecurity,
    read_authority,
    read_key_pair,
    read_token,
)
from thinwire.common.door.tenants import TOKEN_PREFIX, Access, Quotas, read_tenants, token_digest
from thinwire.common.errors import ConfigError, UnauthenticatedError
from thinwire.edge.cli import main as edge_main


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:7071", True),
        ("127.7.7.7:0", True),
        ("[::1]:7071", True),
        ("localhost:7071", True),
        ("[::ffff:127.0.0.1]:7071", True),
        ("unix:/run/thinwire", True),
        ("0.0.0.0:7071", False),
        ("[::]:7071", False),
        ("[::ffff:0.0.0.0]:7071", False),
        ("10.78.0.2:7071", False),
        ("192.0.2.1:7071", False),
        ("[2001:db8::1]:7071", False),
        ("nonesuch.invalid:7071", False),
        (":7071", False),
    ],
)
def test_loopback_is_decided_by_what_an_address_resolves_to(address: str, expected: bool) -> None:
    """What listens everywhere, and what cannot be resolved, is not loopback."""
    assert is_loopback(address) is expected


def test_off_loopback_certificates_and_tokens_are_a_must(tmp_path: Path) -> None:
    """Each refusal names the address, the options, and the command that makes what is missing."""
    certificates, tokens = Certificates.make(tmp_path), Tokens(tmp_path / "tokens.json")
    tokens.add("acme")
    everywhere = "0.0.0.0:7071"
    with pytest.raises(ConfigError) as bare:
        ServerSecurity(access=tokens.access()).of(everywhere)
    with pytest.raises(ConfigError) as tokenless:
        certificates.server("cloud").of(everywhere)

    assert bare.value.message == (
        "0.0.0.0:7071 is not a loopback address and there is no certificate; expected --tls-cert and "
        "--tls-key (`thinwire-cloud certs DIR` makes a development authority and certificates for both "
        "ends), "
        "or --insecure-plaintext."
    )
    assert tokenless.value.message == (
        "0.0.0.0:7071 is not a loopback address and there are no tokens; expected --tokens FILE "
        "(`thinwire-cloud token TENANT --file FILE` draws one), or --insecure-plaintext."
    )
    whole = certificates.server("cloud", access=tokens.access())
    assert whole.of(everywhere) is LinkSecurity.TLS
    assert whole.warnings(everywhere) == []
    assert ServerSecurity().of("127.0.0.1:7071") is LinkSecurity.LOOPBACK


def test_the_one_escape_is_warned_about() -> None:
    """One sentence for each protection that is missing, none on loopback."""
    escape = ServerSecurity(insecure_plaintext=True)

    assert escape.of("0.0.0.0:7071") is LinkSecurity.PLAINTEXT
    assert [warning.startswith("WARNING: listening on") for warning in escape.warnings("0.0.0.0:7071")] == [
        True,
        True,
    ]
    assert escape.warnings("127.0.0.1:7071") == []
    client = ClientSecurity(insecure_plaintext=True, token="tw_x")
    (warning,) = client.warnings("10.0.0.1:7071")
    assert "the token included" in warning
    assert "tw_x" not in warning


def test_a_peer_off_loopback_is_never_dialled_in_plaintext_unasked() -> None:
    """By TLS under the public authorities, until an authority or the escape is given."""
    assert ClientSecurity().of("10.0.0.1:7071") is LinkSecurity.TLS
    assert ClientSecurity().of("127.0.0.1:7071") is LinkSecurity.LOOPBACK
    assert ClientSecurity(authority=b"x").of("127.0.0.1:7071") is LinkSecurity.TLS
    assert ClientSecurity(insecure_plaintext=True).of("10.0.0.1:7071") is LinkSecurity.PLAINTEXT
    assert ClientSecurity(authority=b"x", insecure_plaintext=True).of("10.0.0.1:1") is LinkSecurity.TLS


@pytest.mark.parametrize("command", ["cloud", "edge"])
def test_a_daemon_off_loopback_without_certificates_refuses_to_start(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and the sentence, before a model is loaded or a port is bound."""
    arguments = ["--listen", "0.0.0.0:0", "--model", "/nonesuch"]
    code = cloud_main(["serve", *arguments]) if command == "cloud" else edge_main(["edge", *arguments])

    assert code == 2
    said = capsys.readouterr().err
    assert "0.0.0.0:0 is not a loopback address and there is no certificate" in said
    assert "`thinwire-cloud certs DIR`" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tls-cert", "cloud.pem"], "only one of --tls-cert and --tls-key is given"),
        (["--tls-cert", "cloud.pem", "--tls-key", "edge.key"], "are not a certificate and its key"),
        (["--tls-cert", "cloud.pem", "--tls-key", "nonesuch"], "cannot be read (No such file or directory)"),
        (["--tls-cert", "cloud.key", "--tls-key", "cloud.key"], "are not a certificate and its key"),
        (["--tls-client-ca", "ca.pem"], "--tls-client-ca is given without a certificate"),
        (
            ["--tls-cert", "cloud.pem", "--tls-key", "cloud.key", "--tls-client-ca", "cloud.key"],
            "holds no certificate",
        ),
        (["--tokens", "nonesuch"], "expected a file that can be read"),
        (["--tokens", "ca.pem"], "is not JSON"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_by_name(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2 and one sentence."""
    Certificates.make(tmp_path)
    monkeypatch.chdir(tmp_path)

    assert cloud_main(["serve", *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


# --- certificates -----------------------------------------------------------------------------------------


def test_certs_makes_an_authority_and_a_pair_for_either_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys are their owner's only, every host is in both certificates, and each file is explained."""
    folder = tmp_path / "new" / "certificates"
    code = cloud_main(["certs", str(folder), "--host", "cloud", "--host", "10.78.0.2"])
    said = capsys.readouterr().out

    assert code == 0
    assert {path.name for path in folder.iterdir()} == set(NAMES)
    for name in NAMES:
        mode = stat.S_IMODE((folder / name).stat().st_mode)
        assert mode & 0o077 == 0 if name.endswith(".key") else mode & 0o022 == 0
        assert name in said
    for role in ("cloud", "edge"):
        assert read_key_pair(str(folder / f"{role}.pem"), str(folder / f"{role}.key"), flags="") is not None
        certificate = x509.load_pem_x509_certificate((folder / f"{role}.pem").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert {str(name.value) for name in names} == {"localhost", "127.0.0.1", "::1", "cloud", "10.78.0.2"}
    assert read_authority(str(folder / "ca.pem")) is not None


def test_certs_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file that is there is enough to refuse, and all stay as they were."""
    (tmp_path / "edge.key").write_text("precious")

    assert cloud_main(["certs", str(tmp_path)]) == 2
    assert "already holds edge.key" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["edge.key"]
    assert (tmp_path / "edge.key").read_text() == "precious"


@pytest.mark.parametrize("host", ["", "a host", "cloud:7071", "a..b", "wölke"])
def test_a_host_that_is_none_is_refused(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a file is written."""
    assert cloud_main(["certs", str(tmp_path / "c"), "--host", host]) == 2
    assert f"host is {host!r}; expected a host name or an IP address" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


# --- tokens -----------------------------------------------------------------------------------------------


def test_a_token_is_printed_once_and_kept_as_its_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output gets the token alone; the file is its owner's only and has the tenant's quotas."""
    path = tmp_path / "tokens.json"
    quotas = ["--max-sessions", "4", "--rounds-per-s", "20"]
    assert cloud_main(["token", "acme", "--file", str(path), *quotas]) == 0
    first = capsys.readouterr()
    assert cloud_main(["token", "acme", "--file", str(path), "--tokens-per-s", "400"]) == 0
    second = capsys.readouterr()
    token, other = first.out.strip(), second.out.strip()

    assert token != other
    assert token.startswith(TOKEN_PREFIX)
    assert len(token) >= 40
    assert token not in first.err + path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    access = Access(str(path))
    assert access.authenticate(token).tenant == access.authenticate(other).tenant == "acme"
    assert access.quotas("acme") == Quotas(4, 20.0, 400.0)


def test_revoke_takes_every_token_and_keeps_the_tenant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A token drawn later is another one; a tenant that is not there is named."""
    tokens = Tokens(tmp_path / "tokens.json")
    old = tokens.add("acme", max_sessions=2)
    assert cloud_main(["token", "acme", "--file", str(tokens.path), "--revoke"]) == 0
    access = tokens.access()
    with pytest.raises(UnauthenticatedError):
        access.authenticate(old)
    new = tokens.add("acme")
    access.reload()

    assert access.authenticate(new).tenant == "acme"
    assert access.quotas("acme").max_sessions == 2
    assert cloud_main(["token", "nobody", "--file", str(tokens.path), "--revoke"]) == 2
    assert "tenant is 'nobody'; expected one of acme" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"tenant": "a"}, "a tenant has the fields ['tenant']"),
        ({"tenant": "a", "token_sha256": [], "sessions": 3}, "'sessions'"),
        ({"tenant": "a b", "token_sha256": []}, "tenant is 'a b'"),
        ({"tenant": "a", "token_sha256": "x"}, "token_sha256 is a str"),
        ({"tenant": "a", "token_sha256": ["tw_plain"]}, "is not 64 hexadecimal digits"),
        ({"tenant": "a", "token_sha256": [], "max_sessions": 0}, "max_sessions is 0"),
        ({"tenant": "a", "token_sha256": [], "rounds_per_s": -1}, "rounds_per_s is -1"),
        ({"tenant": "a", "token_sha256": [], "tokens_per_s": "fast"}, "tokens_per_s is 'fast'"),
        ("a", "a tenant has the fields str"),
    ],
)
def test_a_bad_token_file_is_refused_by_field_and_value(entry: object, sentence: str, tmp_path: Path) -> None:
    """A token put there by mistake is not repeated in the message."""
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"tenants": [entry]}))
    with pytest.raises(ConfigError) as caught:
        read_tenants(str(path))

    assert sentence in caught.value.message
    assert "tw_plain" not in caught.value.message


def test_one_tenant_and_one_token_stand_once_in_a_file(tmp_path: Path) -> None:
    """Or a call would be whose?"""
    path = tmp_path / "tokens.json"
    digest = token_digest("tw_x")
    for names, sentence in ((("a", "a"), "tenant a stands twice"), (("a", "b"), "a and b have one token")):
        path.write_text(
            json.dumps({"tenants": [{"tenant": name, "token_sha256": [digest]} for name in names]})
        )
        with pytest.raises(ConfigError, match=sentence):
            read_tenants(str(path))


@pytest.mark.parametrize("content", ["", "\n", "two words", "naïve", "x" * 600])
def test_what_is_no_token_is_not_sent(content: str, tmp_path: Path) -> None:
    """Refused before it reaches a header, and not repeated."""
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        ClientSecurity(token=read_token(str(path)))

    assert not content.strip() or content not in caught.value.message
