"""`thinwire` as a command: arguments, exit codes, one-sentence errors."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fakes import TableModel, TableVocabulary, random_table
from loopback import loopback
from thinwire.common.daemon.options import from_arguments
from thinwire.common.schemes import is_auto
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.generation import GenerationRequest
from thinwire.edge.cli import EdgeOptions, generation_request, main, make_parser
from thinwire.edge.settings import DEFAULT_EDGE, EdgeSettings

SIZE = 6
VOCABULARY = TableVocabulary(SIZE)
NOBODY = "127.0.0.1:1"


def parse(*argv: str, environment: dict[str, str] | None = None) -> argparse.Namespace:
    """Parsed arguments."""
    return make_parser(environment or {}).parse_args(argv)


async def run(argv: Sequence[str]) -> int:
    """`main` in a thread of its own, beside the daemons of this one."""
    return await asyncio.to_thread(main, argv)


def table() -> TableModel:
    """A model for both sides."""
    return TableModel(random_table(3, SIZE, zeros=False), context_length=256)


def stream(content: bytes) -> io.TextIOWrapper:
    """What Python makes of a file that holds these bytes."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="surrogateescape")


def test_every_default_is_that_of_the_settings() -> None:
    """`generate` without flags asks for exactly the documented defaults."""
    requests = [generation_request(parse("generate", "x"), "x") for _ in range(2)]

    assert requests[0].seed != requests[1].seed  # fresh bits each time
    assert [replace(request, seed=0) for request in requests] == 2 * [GenerationRequest("x", seed=0)]
    assert from_arguments(EdgeSettings, parse("edge")) == EdgeSettings()
    assert from_arguments(EdgeOptions, parse("edge")) == EdgeOptions()


def test_every_flag_reaches_its_parameter() -> None:
    """Flag by flag."""
    flags = (
        "--scheme c-sqs:ell=50,beta=0.1,eta=0.2,alpha=0.3,K_max=9,rollback=drafted,frozen=1 "
        "--draft-length 6 --uplink-budget-bits 99 --max-tokens 7 "
        "--min-block-acceptance 0.25 --temperature 0.5 --top-k 11 --top-p 0.9 --seed 5 --stop A --stop B "
        "--stop-token-id 7 --stop-token-id 0 --ignore-eos"
    )
    request = generation_request(parse("generate", "x", *flags.split()), "x")

    assert request.scheme == CSqs.Parameters(
        lattice_resolution=50,
        initial_threshold=0.1,
        threshold_step=0.2,
        target_dropped_mass=0.3,
        max_support_size=9,
        rollback="drafted",
        frozen_threshold=True,
    )
    assert (request.draft_length, request.uplink_budget_bits, request.max_tokens) == (6, 99, 7)
    assert request.min_block_acceptance == 0.25
    assert (request.sampling.temperature, request.sampling.top_k, request.sampling.top_p) == (0.5, 11, 0.9)
    assert (request.seed, request.stop, request.ignore_eos) == (5, ("A", "B"), True)
    assert request.stop_token_ids == (7, 0)

    request = generation_request(parse("generate", "x", *["--scheme", "auto", "--objective", "cloud"]), "x")
    assert is_auto(request.scheme)
    assert request.objective == "cloud"


def test_the_environment_names_the_edge_and_the_demos_prompt() -> None:
    """THINWIRE_EDGE and THINWIRE_PROMPT; an argument wins."""
    environment = {"THINWIRE_EDGE": "example.org:9", "THINWIRE_PROMPT": '`$HOME` "it\'s"'}

    assert parse("status", environment=environment).peer == "example.org:9"
    assert parse("status", "--edge", NOBODY, environment=environment).peer == NOBODY
    assert parse("status").peer == DEFAULT_EDGE
    assert parse("demo", environment=environment).prompt == '`$HOME` "it\'s"'
    assert parse("demo", "other", environment=environment).prompt == "other"


@pytest.mark.parametrize("command", ["", "edge", "generate", "status", "demo"])
def test_help_ends_with_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command's help documents them."""
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])

    assert caught.value.code == 0
    assert capsys.readouterr().out.rstrip().endswith("130  interrupted")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--scheme k-sqs:ell=0", "ell of k-sqs is 0; expected an integer from 1 to 4096."),
        (
            "--objective cloud",
            "--objective is 'cloud' with scheme k-sqs:ell=100,K=8; expected latency, as in rounds the target "
            "makes no pass before a draft is there, or scheme coupled or auto.",
        ),
        ("--temperature 50", "--temperature is 50.0; expected 0 (greedy) or 0.01 to 10."),
        ("--seed -1", "--seed is -1; expected an integer from 0 to 18446744073709551615."),
        ("--draft-length 65", "--draft-length is 65; expected an integer from 0 to 64."),
        ("--min-block-acceptance 1", "--min-block-acceptance is 1.0; expected a number in [0, 1)."),
        ("--scheme c-sqs:eta=0", "eta of c-sqs is 0.0; expected a number in (0, 1]."),
        ("--scheme k-sqs:K=0", "K of k-sqs is 0; expected an integer from 1 to 256."),
        ("--scheme c-sqs:k-max=257", "k-max of c-sqs is 257; expected an integer from 1 to 256."),
        ("--scheme c-sqs:beta=2", "beta of c-sqs is 2.0; expected a number at most 1."),
        ("--timeout -5", "--timeout is -5.0; expected more than 0 to 86400 seconds."),
        ("--timeout 0", "--timeout is 0.0; expected more than 0 to 86400 seconds."),
        ("--timeout nan", "--timeout is nan; expected more than 0 to 86400 seconds."),
        ("--explain --quiet", "--explain and --quiet are both given; expected one of them."),
        ("--json --quiet", "--json and --quiet are both given; expected one of them."),
        ("--timeout inf", "--timeout is inf; expected more than 0 to 86400 seconds."),
    ],
)
def test_a_value_out_of_range_is_a_usage_error(
    flags: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one sentence, without asking any edge."""
    code = main(["generate", "x", "--edge", NOBODY, *flags.split()])

    assert code == 2
    assert capsys.readouterr().err == f"thinwire: {sentence}\n"


@pytest.mark.parametrize(
    "words", ["generate x --temp 1", "edge --clou 127.0.0.1:1", "health --time 1", "--vers"]
)
def test_an_abbreviated_option_is_a_usage_error(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the command and of each of its commands."""
    with pytest.raises(SystemExit) as caught:
        main(words.split())

    assert caught.value.code == 2
    assert "thinwire: error: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["generate x", "status"])
def test_an_edge_that_is_not_there_is_exit_code_5(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence with the address."""
    code = main([*command.split(), "--edge", NOBODY])

    assert code == 5
    expected = (
        f"thinwire: no edge answers at {NOBODY}; expected a running `thinwire edge` there. [UNAVAILABLE]\n"
    )
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("status --edge nowhere", "argument --edge: 'nowhere' is not HOST:PORT"),
        ("status --edge http://127.0.0.1:1", "--edge: 'http://127.0.0.1:1' is not HOST:PORT, not a URL"),
        (
            "edge --cloud https://a.example:1/x",
            "--cloud: 'https://a.example:1/x' is not HOST:PORT, not a URL",
        ),
        ("edge --listen http://a.example:1", "--listen: 'http://a.example:1' is not HOST:PORT, not a URL"),
        ("health --edge ::1:7072", "--edge: '::1:7072' is not HOST:PORT, an IPv6 address in brackets"),
        ("generate x --edge 127.0.0.1:0", "--edge: '127.0.0.1:0' has port 0; expected the port that"),
        ("generate x --edge user@a.example:1", "--edge: 'user@a.example:1' is not HOST:PORT"),
        ("generate x --edge a.example:\u0661", "--edge: 'a.example:\u0661' is not HOST:PORT"),
    ],
)
def test_an_address_of_the_wrong_shape_is_a_usage_error(
    words: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """argparse's own exit code 2; a URL is none, and a port is what a daemon listens on."""
    with pytest.raises(SystemExit) as caught:
        main(words.split())

    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--patience -1", "--patience is -1.0; expected 0 to 86400 seconds."),
        ("--connect-timeout inf", "--connect-timeout is inf; expected more than 0 to 86400 seconds."),
        ("--round-timeout 0", "--round-timeout is 0.0; expected more than 0 to 86400 seconds."),
        ("--keepalive 1e9", "--keepalive is 1000000000.0; expected 0 to 86400 seconds."),
        ("--max-generations 0", "--max-generations is 0; expected an integer from 1 to 10000."),
        ("--threads 0", "--threads is 0; expected an integer from 1 to 10000."),
    ],
)
def test_an_option_of_the_edge_that_is_refused_is_named_as_typed(
    flags: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any model is loaded."""
    assert main(["edge", *flags.split()]) == 2
    assert capsys.readouterr().err == f"thinwire: {sentence}\n"


def test_what_an_operator_sets_reaches_the_settings() -> None:
    """Bounds and deadlines by phase."""
    flags = (
        "--patience 7 --connect-timeout 1 --round-timeout 2 --drain-grace 3 --keepalive 0 "
        "--max-generations 9 --least-round-timeout 1.5 --close-timeout 0.25 --backoff 0 "
        "--max-backoff 4 --status-timeout 6 --write-timeout 8 --max-prompt-bytes 10"
    )
    expected = EdgeSettings(
        patience_s=7,
        connect_timeout_s=1,
        round_timeout_s=2,
        drain_grace_s=3,
        keepalive_s=0,
        max_generations=9,
        least_round_timeout_s=1.5,
        close_timeout_s=0.25,
        backoff_s=0,
        max_backoff_s=4,
        status_timeout_s=6,
        write_timeout_s=8,
        max_prompt_bytes=10,
    )

    assert from_arguments(EdgeSettings, parse("edge", *flags.split())) == expected


@pytest.mark.parametrize("text", ["a.example:1", "10.0.0.7:65535", "[::1]:7072", "[fe80::1%eth0]:7072"])
def test_a_peer_is_a_host_and_a_port(text: str) -> None:
    """A name, or an address of either kind."""
    assert parse("status", "--edge", text).peer == text


def test_a_round_log_that_cannot_be_written_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Said before any model is loaded."""
    code = main(["edge", "--round-log", "/nonexistent/rounds.jsonl"])

    assert code == 2
    assert "--round-log is '/nonexistent/rounds.jsonl'" in capsys.readouterr().err


async def test_generate_prints_the_text_and_says_the_rest_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file gets the text alone; the table goes to standard error, with --quiet nowhere; JSON has it all."""
    said = []
    async with loopback(table(), table(), VOCABULARY) as both:
        for form in ((), ("--quiet",), ("--json",)):
            options = ["--edge", both.edge_address, "--max-tokens", "12", "--seed", "3", *form]
            assert await run(["generate", "ab", *options]) == 0
            said.append(capsys.readouterr())
    plain, quiet, lines = said
    objects = [json.loads(line) for line in lines.out.splitlines()]
    *tokens, last = objects

    assert len(tokens) == 12
    assert last["text"].startswith("".join(token["text"] for token in tokens))
    assert plain.out == quiet.out == last["text"] + "\n"
    assert last["output_tokens"] == 12
    assert quiet.err == lines.err == ""
    assert f"lattice_{KSqs.Parameters().lattice_resolution}" not in plain.err
    for name in ("tokens/s", "rounds", "acceptance rate", "uplink payload", "mean dropped mass", "seed"):
        assert name in plain.err


async def test_a_dash_reads_the_prompt_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same prompt gives the same text."""
    async with loopback(table(), table(), VOCABULARY) as both:
        options = ["--edge", both.edge_address, "--max-tokens", "12", "--seed", "3"]
        await run(["generate", "abc", *options])
        given = capsys.readouterr().out.splitlines()[0]
        monkeypatch.setattr("sys.stdin", stream(b"abc"))
        await run(["generate", "-", *options])

    assert capsys.readouterr().out.splitlines()[0] == given


async def test_what_the_edge_refuses_is_shown_with_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    """Bad input is exit code 2, an unreachable cloud 5, another vocabulary 1."""
    async with loopback(table(), table(), VOCABULARY) as both:
        empty = await run(["generate", "", "--edge", both.edge_address])
        unknown = await run(["generate", "a", "--edge", both.edge_address, "--scheme", "nonesuch"])
    errors = capsys.readouterr().err
    other = TableVocabulary(SIZE, salt="other")
    async with loopback(table(), table(), VOCABULARY, target_vocabulary=other) as both:
        mismatch = await run(["generate", "a", "--edge", both.edge_address])

    assert (empty, unknown, mismatch) == (2, 2, 1)
    assert "thinwire: the prompt holds 0 tokens; expected at least 1." in errors
    assert "scheme is 'nonesuch'" in errors
    assert "[FAILED_PRECONDITION]" in capsys.readouterr().err


async def test_status_prints_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    """A table, or one JSON object."""
    async with loopback(table(), table(), VOCABULARY, fingerprint=b"12345678") as both:
        code = await run(["status", "--edge", both.edge_address])
        plain = capsys.readouterr().out
        await run(["status", "--edge", both.edge_address, "--json"])
        status = json.loads(capsys.readouterr().out)

    assert code == 0
    assert both.cloud_address in plain
    assert b"12345678".hex() in plain
    assert status["cloud_info"]["target_fingerprint"] == b"12345678".hex()
    assert status["vocabulary"]["size"] == SIZE
    assert status["cloud_info"]["context_length"] == 256


async def test_status_names_the_part_in_which_the_tokenizers_differ(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As the refusal of a text does."""
    edge, cloud = TableVocabulary(SIZE), TableVocabulary(SIZE, salt="another")
    edge.identity = replace(edge.identity, part_digests=(1, 2, 3, 4, 5, 6, 7, 8))
    cloud.identity = replace(cloud.identity, part_digests=(1, 2, 3, 4, 5, 0, 7, 0))
    async with loopback(table(), table(), edge, target_vocabulary=cloud) as both:
        await run(["status", "--edge", both.edge_address])

    assert "ANOTHER in its post-processor (6 ids, sha256 " in capsys.readouterr().out
