"""
`python -m tests.compose`: the whole of docker-compose.yml, from build to down, on the engine that answers.

On an engine of `.ci/container_engine.py`, COMPOSE_WORK is its work folder; the images are then built from a
copy of this checkout and from wheels that are downloaded here.
Exit codes: 0 passed; 1 failed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from deploy.credentials import FOLDER as CREDENTIALS
from link.__main__ import report_lines
from link.carrier import CLOUD_ADDRESS
from link.description import ETHERNET_HEADER_BYTES, LinkDescription
from tests.compose import context
from tests.compose.stack import BUILD_TIMEOUT_S, UP_TIMEOUT_S, Generation, Stack, parse_generation
from tests.compose.steps import StepError, require, run, say, step

PROMPT = "def read_lines(path):\n"
SEED, MAX_TOKENS = 7, 32
LINK = LinkDescription(rate_up_bps=256_000, rate_down_bps=1_000_000, rtt_s=0.05, mtu_bytes=1400)
"""Thin enough for the wire to be felt, and none of the defaults."""
VARIABLES = {
    "LINK_UP": "256k",
    "LINK_DOWN": "1M",
    "LINK_RTT_MS": "50",
    "HEALTH_INTERVAL": "2s",
    # As `thinwire demo` has them, whose text is compared.
    "CLOUD_OPTIONS": f"--threads {os.cpu_count() or 1}",
    "EDGE_OPTIONS": "--threads 1",
}
DIAL = (
    *("--edge", "127.0.0.1:7072", "--ca", str(CREDENTIALS / "ca.pem")),
    *("--token-file", str(CREDENTIALS / "edge-token")),
)
"""From the edge's own container, as its client does."""
WRONG_DOWN = "900k"
"""What the cloud's side-car does while the edge's still says 1M: a tenth less must be refused."""
SYN_FRAME_BYTES = 74
"""Ethernet 14, IPv4 20, TCP 20, and 20 of options (RFC 9293, 7323) in either direction of a connect."""
CONNECT_SLACK_S = 0.015
"""Beyond the arithmetic, for the best of five: containers on a busy machine."""


def check_example(stack: Stack, folder: Path) -> None:
    """`.env.example` lists what the compose file has anyway."""
    lines = (folder / ".env.example").read_text().splitlines()
    listed = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    names = ("TORCH_INDEX", "PIP_INDEX_URL", "PIP_NO_INDEX", "EDGE_PORT", *VARIABLES)
    absent = dict.fromkeys(names, "")
    require(
        stack.compose("config", variables=absent) == stack.compose("config", variables={**absent, **listed}),
        ".env.example does not list the defaults of docker-compose.yml",
    )


def check_wire(stack: Stack) -> None:
    """The self-test's figures, and a lone round trip that feels the whole delay."""
    report = stack.report()
    require(report["passed"] and not report["throughput_only"], f"the wire's report is {report}")
    for line in report_lines(report):
        say(line)
    frame_s = SYN_FRAME_BYTES * 8 * (1 / LINK.rate_up_bps + 1 / LINK.rate_down_bps)
    expected_s, taken_s = LINK.rtt_s + frame_s, min(stack.connect_times_s(CLOUD_ADDRESS, 7071))
    say(f"a TCP connect from edge to cloud: {taken_s * 1000:.2f} ms (arithmetic {expected_s * 1000:.2f})")
    require(
        expected_s - 0.001 <= taken_s <= expected_s + CONNECT_SLACK_S,
        "a lone round trip does not feel the delay",
    )


def check_generation(stack: Stack, device: str) -> Generation:
    """One through the client, with what it moved over the link."""
    before = stack.counters(device)
    begun_s = time.monotonic()
    generation = stack.generate(PROMPT, SEED, MAX_TOKENS)
    elapsed_s = time.monotonic() - begun_s
    after = stack.counters(device)
    statistics = generation.statistics
    up, down = (
        (after[f"{way}_bytes"] - before[f"{way}_bytes"], after[f"{way}_packets"] - before[f"{way}_packets"])
        for way in ("sent", "received")
    )
    say(
        f"{statistics['output_tokens']} tokens in {statistics['rounds']} rounds, "
        f"{statistics['total_s']:.2f} s ({elapsed_s:.1f} s with the client's container)"
    )
    for name, (moved_bytes, packets) in (("up", up), ("down", down)):
        headers = 0 if device.startswith("eth") else packets * ETHERNET_HEADER_BYTES
        say(f"{device} {name}: {packets} packets, {moved_bytes + headers} B with Ethernet headers")
    payload_bytes = statistics["uplink_payload_bits"] // 8
    say(f"of these up: {payload_bytes} B of payload in {statistics['uplink_message_bytes']} B of messages")
    require(statistics["output_tokens"] == MAX_TOKENS, f"expected {MAX_TOKENS} tokens")
    require(up[0] > statistics["uplink_message_bytes"], "the messages did not cross the link's device")
    return generation


def check_credentials(stack: Stack) -> None:
    """Both connections are TLS, and nobody gets in without a token or without the authority."""
    status = json.loads(stack.execute("edge", "thinwire", "status", *DIAL, "--json"))
    for end in ("edge_security", "cloud_security"):
        say(f"{end}: {status[end]}")
        require(status[end] == "TLS", f"{end} is {status[end]!r}")
    for words, expected in ((DIAL[:4], "[UNAUTHENTICATED]"), (DIAL[:2], "no edge answers")):
        said = stack.execute("edge", "sh", "-c", f"thinwire status {' '.join(words)} 2>&1 || true").strip()
        say(said)
        require(expected in said, f"a stranger at the edge is told {said!r}")


def check_elsewhere(generation: Generation) -> None:
    """The same seed in two processes of this checkout gives the same tokens."""
    if importlib.util.find_spec("torch") is None:
        say("not compared with a text made outside of containers: this Python has no torch")
        return
    command = [sys.executable, "-m", "thinwire.edge", "demo", PROMPT, "--seed", str(SEED)]
    options = ["--max-tokens", str(MAX_TOKENS), "--json"]
    elsewhere = parse_generation(run([*command, *options], timeout_s=120, cwd=context.ROOT))
    require(
        elsewhere.token_ids == generation.token_ids,
        f"the same seed gives {elsewhere.text!r} outside of containers and {generation.text!r} inside",
    )


def check_refusal(stack: Stack, work: Path) -> None:
    """A link that is not what it says is refused, and the edge is unhealthy and says so."""
    override = work / "wrong.json"
    wrong = f"--kind wire --up 256k --down {WRONG_DOWN} --rtt-ms 50"
    override.write_text(json.dumps({"services": {"cloud-link": {"command": wrong}}}))
    side_cars = ["up", "--detach", "--no-build", "--force-recreate", "--no-deps", "cloud-link", "edge-link"]
    stack.compose(*side_cars, timeout_s=UP_TIMEOUT_S, overrides=[override])
    for fault in stack.await_report({"passed": False})["faults"]:
        say(fault)
    said = stack.compose("exec", "-T", "edge", "sh", "-c", "python -m deploy.health || true")
    require("THE LINK WAS REFUSED" in said, f"the edge's health check says {said!r}")
    say(f"the edge's health check: {said.strip()[:60]} ...")


def check_bucket(stack: Stack, first: Generation) -> None:
    """LINK=tc on the same containers: throughput as described, and the same text."""
    side_cars = ["up", "--detach", "--no-build", "--force-recreate", "--no-deps", "cloud-link", "edge-link"]
    stack.compose(*side_cars, timeout_s=UP_TIMEOUT_S, variables={"LINK": "tc"})
    report = stack.await_report({"kind": "tc", "passed": True})
    for line in report_lines(report):
        say(line)
    said = stack.compose("logs", "--no-color", "edge-link")
    require("THROUGHPUT ONLY" in said, "LINK=tc does not say that it is for throughput only")
    stack.await_healthy()
    # The client's dependencies are up; with other variables compose would make the side-cars again.
    words = ["thinwire", "generate", *DIAL, PROMPT, "--seed", str(SEED)]
    before = stack.counters(report["device"])
    printed = stack.execute("edge", *words, "--max-tokens", str(MAX_TOKENS), "--json", timeout_s=120)
    sent = stack.counters(report["device"])["sent_bytes"] - before["sent_bytes"]
    say(f"{report['device']} up: {sent} B")
    require(parse_generation(printed).token_ids == first.token_ids, "another link gives another text")


def test(own_work: Path | None, work: Path) -> None:
    """
    Every step.

    Args:
        own_work: work folder of an engine of our own, which reaches no index; None for somebody else's.
        work: a folder for what the test writes.
    """
    variables, folder = dict(VARIABLES), context.ROOT
    overrides: list[Path] = []
    if own_work is not None:
        folder = context.stage(own_work)
        with step("download the images' wheels"):
            say(f"{context.download_wheels(folder)} wheels")
        variables["PIP_NO_INDEX"] = "1"
    if real_time_us := os.environ.get("COMPOSE_REAL_TIME_US"):
        share = {"cpu_rt_runtime": int(real_time_us)}
        overrides.append(work / "real-time.json")
        overrides[0].write_text(json.dumps({"services": {"cloud-link": share, "edge-link": share}}))
    stack = Stack(folder, variables, overrides)
    with step(".env.example against docker-compose.yml"):
        check_example(stack, folder)
    with step("build"):
        stack.compose("build", timeout_s=BUILD_TIMEOUT_S)
        sizes = ["docker", "images", "--filter", "reference=thinwire-*", "--format"]
        sizes.append("{{.Repository}} {{.Size}}")
        for line in sorted(run(sizes, timeout_s=60).splitlines()):
            say(line)
    try:
        with step("up, until every service is healthy"):
            stack.compose("up", "--detach", "--no-build", "--wait", timeout_s=UP_TIMEOUT_S)
        with step("the link"):
            check_wire(stack)
        with step("who gets in"):
            check_credentials(stack)
        with step("a generation"):
            first = check_generation(stack, stack.report()["device"])
            say(repr(first.text))
        with step("the same seed again"):
            again = check_generation(stack, stack.report()["device"])
            require(again.text == first.text, f"the same seed gives {again.text!r}")
        with step("the same seed outside of containers"):
            check_elsewhere(first)
        with step("what the side-cars have carried"):
            for service, ended in stack.ended_lines().items():
                say(f"{service}: {json.dumps(ended)}")
        with step("LINK=tc"):
            check_bucket(stack, first)
        with step("a link that is not what it says"):
            check_refusal(stack, work)
    except BaseException:
        with contextlib.suppress(StepError):
            print(stack.logs(), file=sys.stderr)
        raise
    finally:
        with step("down"):
            stack.down()


def main() -> int:
    """The exit code."""
    own = os.environ.get("COMPOSE_WORK")
    try:
        run(["docker", "compose", "version"], timeout_s=30)
        with tempfile.TemporaryDirectory(prefix="thinwire-compose-") as work:
            test(Path(own) if own else None, Path(work))
    except StepError as error:
        print(f"compose-test: {error}", file=sys.stderr)
        return 1
    print("compose-test: passed", flush=True)
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for signal_number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, _end)
    sys.exit(main())
