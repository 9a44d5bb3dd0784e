"""Stop strings at the cloud: found as the edge finds them, at a bounded cost, and never the end of a text."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.cloud.test_free_running import attached, free_run, hash_of, hints, of_kind, wrote
from tests.edge.small_tokenizers import TOKENIZERS, decode
from thinwire.cloud import events
from thinwire.cloud.free_running import FreeRunningSession
from thinwire.cloud.stop_finder import StopFinder
from thinwire.common.errors import ConfigError
from thinwire.common.session.messages import Written
from thinwire.edge.text_stream import TextStream

SPECIAL = {"<|end|>": 7}


def letters(token_ids: Any) -> str:
    """a for 0, b for 1, ...; 7 is special."""
    return "".join(chr(97 + token_id) for token_id in token_ids if token_id != 7)


def finder(*stop: str, prompt: tuple[int, ...] = (), decode: Any = letters) -> StopFinder:
    """Of these stop strings."""
    return StopFinder(decode, stop, special_tokens=SPECIAL, prompt_token_ids=prompt)


def test_a_stop_string_is_found_within_a_pass_and_over_several() -> None:
    """Once; the same characters again are found again."""
    made = finder("bcd", "zz")

    assert [made.written(ids) for ids in ([0, 1], [2], [3], [0], [1, 2, 3, 0], [2, 3])] == [
        False, False, True, False, True, False,
    ]  # fmt: skip


def test_the_prompt_is_not_searched() -> None:
    """Nor is a stop string found that begins in it: the edge does not stop there either."""
    assert not finder("bcd", prompt=(1, 2, 3)).written([0])
    assert not finder("bcd", prompt=(1, 2)).written([3])


def test_special_tokens_are_found_by_their_names_and_not_by_a_part_of_them() -> None:
    """As at the edge; one that no stop string names has no text."""
    assert finder("b<|end|>").written([0, 1, 7])
    assert not finder("b<|end|>").written([0, 7])
    assert not finder("end").written([0, 1, 7])
    assert finder("bc").written([1, 7, 2])


@pytest.mark.parametrize("stop", [("x" * 257,), ("",), ("x",) * 17, ("\ud800",)])
def test_what_no_request_may_have_is_refused(stop: tuple[str, ...]) -> None:
    """An edge is a stranger: its stop strings are bounded here too."""
    with pytest.raises(ConfigError):
        finder(*stop)


def test_what_is_decoded_at_once_is_bounded() -> None:
    """By the longest stop string and the pass, however long the text; without stop strings it is nothing."""
    decoded: list[int] = []

    def watched(token_ids: Any) -> str:
        decoded.append(len(token_ids))
        return letters(token_ids)

    made = finder("z" * 20, decode=watched)
    for _ in range(200):
        assert not made.written([1] * 17)
    assert max(decoded) <= 8 + 8 + 20 + 17
    decoded.clear()
    assert not finder(decode=watched).written([1, 2, 3])
    assert decoded == []


@pytest.mark.parametrize("name", TOKENIZERS)
def test_it_finds_what_the_edge_finds(name: str) -> None:
    """
    200 random texts of a tokenizer of each kind, with a stop string out of each: the pass in which the edge
    stops is the pass in which the cloud pauses, but where a decoder broke a run of bytes.
    """
    tokenizer = TOKENIZERS[name]
    size = tokenizer.get_vocab_size() - 1
    plain = [token_id for token_id in range(size) if "\ufffd" not in decode(tokenizer, [token_id])]
    chance, agreed, texts = random.Random(3), 0, 0
    for _ in range(200):
        ids = [chance.choice(plain if chance.random() < 0.95 else range(size)) for _ in range(40)]
        whole = TextStream(lambda some: decode(tokenizer, some))
        text = "".join(whole.push(token_id)[0] for token_id in ids)
        begin = chance.randrange(max(1, len(text) - 4))
        stop = text[begin : begin + chance.randrange(1, 5)]
        if not stop or "\ufffd" in stop:
            continue
        texts += 1
        edge = TextStream(lambda some: decode(tokenizer, some), stop=(stop,))
        ends = next((n for n, token_id in enumerate(ids) if edge.push(token_id)[1]), None)
        cloud = StopFinder(lambda some: decode(tokenizer, some), (stop,), special_tokens={})
        passes = [ids[n : n + 4] for n in range(0, len(ids), 4)]
        found = next((n for n, ids_of_pass in enumerate(passes) if cloud.written(ids_of_pass)), None)
        agreed += found == (None if ends is None else ends // 4)

    assert texts > 60
    assert agreed >= 0.9 * texts


# --- the session ------------------------------------------------------------------------------------------


def writing(*stop: str) -> FreeRunningSession:
    """A session of the letters, whose first pass is asked for."""
    made = attached(stop=stop)
    made._stops = finder(*stop, prompt=made.open.prompt_token_ids)
    return made


def pauses(effects: list[Any]) -> list[bool]:
    """Of what went down."""
    messages = [reply.message for reply in of_kind(effects, events.Reply)]
    return [message.pauses for message in messages if isinstance(message, Written)]


def test_behind_a_stop_string_no_pass_is_made_until_the_edge_goes_on() -> None:
    """An acknowledgement of all of it goes on; one of a part does not; after that it is no stop any more."""
    made = writing("bcd")
    assert of_kind(made.step(wrote(0, 1), 1.0), events.Write)
    paused = made.step(wrote(2, 3), 2.0)

    assert pauses(paused) == [True]
    assert of_kind(paused, events.Write) == []
    assert of_kind(made.step(events.HintsReceived(1, hints(4, held=5)), 3.0), events.Write) == []
    went_on = made.step(events.HintsReceived(1, hints(held=7)), 4.0)
    assert len(of_kind(went_on, events.Write)) == 1
    assert pauses(made.step(wrote(4), 5.0)) == [False]


def test_a_paused_session_is_closed_or_expires() -> None:
    """The idle time runs while it waits."""
    made = writing("b")
    paused = made.step(wrote(1), 2.0)
    assert of_kind(paused, events.ArmTimer)[-1] == events.ArmTimer(22.0)

    assert of_kind(made.step(events.CloseReceived(1), 3.0), events.Release)


def test_what_a_resumed_stream_lacks_says_that_the_target_pauses() -> None:
    """And a stream whose edge holds all of it has said that the text goes on."""
    made = writing("bc")
    made.step(wrote(1, 2), 2.0)
    made.step(events.LinkLost(1), 3.0)
    resumed = made.step(events.Attached(2, made.open.free_run), 4.0)
    assert pauses(resumed) == [True]
    assert of_kind(resumed, events.Write) == []

    made.step(events.LinkLost(2), 5.0)
    whole = free_run(held_length=5, prefix_hash=hash_of(0, 1, 2, 1, 2))
    assert len(of_kind(made.step(events.Attached(3, whole), 6.0), events.Write)) == 1
