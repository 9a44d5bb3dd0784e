"""One log line a request at either end, without what was said."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from loopback import generate, loopback, make_request, unchecked
from tests.integration.operations import VOCABULARY, models, until
from thinwire.common.errors import ConfigError, TransportError
from thinwire.common.observe.log import JsonFormatter
from thinwire.edge.settings import EdgeSettings


def lines_of(caplog: pytest.LogCaptureFixture, logger: str) -> list[dict[str, Any]]:
    """What one module logged, as JSON would show it."""
    return [json.loads(JsonFormatter().format(r)) for r in caplog.records if r.name == logger]


async def test_a_request_leaves_one_line_at_either_end(caplog: pytest.LogCaptureFixture) -> None:
    """The same session, tenant, scheme and counts, with the seconds of each phase; no text, no ids."""
    caplog.set_level(logging.INFO)
    async with loopback(*models(), VOCABULARY) as both:
        done = await generate(both.client, make_request("abcde", scheme="c-sqs", max_tokens=20))
        await until(lambda: both.cloud.sessions == 0 and not both.edge.running)
    s = done.finished.statistics
    (edge,), (cloud,) = lines_of(caplog, "thinwire.edge.account"), lines_of(caplog, "thinwire.cloud.account")

    for line in (edge, cloud):
        assert line["rounds"] == s.rounds
        assert (line["drafted_tokens"], line["accepted_tokens"]) == (s.drafted_tokens, s.accepted_tokens)
        assert (line["scheme"], line["tenant"], line["prompt_tokens"]) == ("c-sqs", "default", 5)
        assert line["bytes_up"] == s.uplink_message_bytes
        assert line["session"] == edge["session"]
        assert not any(isinstance(value, (list, dict)) for value in line.values())
        assert "abcde" not in json.dumps(line)
        assert done.text not in json.dumps(line)
    assert len(edge["session"]) == 8
    assert (edge["event"], edge["reason"], edge["tokens"]) == ("generation ended", "length", 20)
    assert (cloud["event"], cloud["reason"]) == ("session ended", "CLOSED")
    for phase in ("total_s", "first_token_s", "draft_s", "encode_s", "network_s", "queue_s", "verify_s"):
        assert edge[phase] == pytest.approx(getattr(s, phase), abs=1e-6)


async def test_prompt_and_text_are_logged_only_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """`--log-text`, of the edge alone."""
    caplog.set_level(logging.INFO)
    async with loopback(*models(), VOCABULARY, log_text=True) as both:
        done = await generate(both.client, make_request("abcde", max_tokens=20))
        await until(lambda: not both.edge.running)
    (edge,) = lines_of(caplog, "thinwire.edge.account")

    assert (edge["prompt"], edge["text"]) == ("abcde", done.text)


async def test_a_refused_request_is_one_line_too(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason; the sentence only where it cannot quote the request."""
    caplog.set_level(logging.INFO)
    settings = EdgeSettings(connect_timeout_s=0.5)
    async with loopback(*models(), VOCABULARY, edge_settings=settings) as both:
        with pytest.raises(ConfigError):
            await generate(both.client, unchecked(make_request("abcde"), stop=("secret" * 60,)))
        with pytest.raises(ConfigError):
            await generate(both.client, make_request("abcde", scheme="dense-f16"))
        await both.cloud.stop(0)
        with pytest.raises(TransportError):
            await generate(both.client, make_request("abcde"))
        await until(lambda: not both.edge.running)
    bad, refused, lost = lines_of(caplog, "thinwire.edge.account")
    (cloud,) = lines_of(caplog, "thinwire.cloud.daemon")

    assert (bad["event"], bad["error"]) == ("generation refused", "PARAMETER_OUT_OF_RANGE")
    assert "failure" not in bad
    assert (refused["event"], refused["reason"], refused["error"]) == (
        "generation ended",
        "error",
        "PARAMETER_OUT_OF_RANGE",
    )
    assert (cloud["event"], cloud["error"]) == ("session refused", "PARAMETER_OUT_OF_RANGE")
    assert lost["error"] == "LINK"
    assert "did not answer within" in lost["failure"]
