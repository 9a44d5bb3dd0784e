"""Two real daemons: where a text ends at a token, by its id or by its name."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request
from thinwire.cloud.settings import CloudSettings
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import scheme_names
from thinwire.common.session.messages import FinishReason

SIZE = 8
TARGET, DRAFT = random_law(SIZE, 1), random_law(SIZE, 2)
SPECIAL = {"<|im_end|>": 2, "<|pad|>": 5}
VOCABULARY = TableVocabulary(SIZE, special_tokens=SPECIAL)


def greedy(count: int) -> list[int]:
    """The target's greedy text behind "a"."""
    prefix = [0]
    for _ in range(count):
        prefix.append(int(np.argmax(TARGET(tuple(prefix)))))
    return prefix[1:]


@pytest.mark.parametrize("scheme", scheme_names())
@pytest.mark.parametrize("stop", [{"stop": ("<|im_end|>",)}, {"stop_token_ids": (2,)}], ids=["name", "id"])
async def test_a_text_ends_at_a_stop_token(stop: dict[str, object], scheme: str) -> None:
    """The token counts and has no text; nothing behind it is emitted or counted."""
    whole = greedy(60)
    expected = whole[: whole.index(2) + 1]
    models = WatchedModel(TARGET, context_length=256), WatchedModel(DRAFT, context_length=256)
    async with loopback(*models, VOCABULARY, cloud_settings=CloudSettings(allow_dense_f16=True)) as both:
        request = make_request(temperature=0.0, max_tokens=60, scheme=scheme, **stop)
        done = await generate(both.client, request)

    assert list(done.token_ids) == expected
    assert done.reason is FinishReason.STOP
    assert done.text == VOCABULARY.decode(expected)
    assert done.finished.statistics.output_tokens == len(expected)


async def test_stop_token_ids_outside_the_vocabulary_or_too_many_are_refused() -> None:
    """Each with what came and what was expected."""
    models = WatchedModel(TARGET, context_length=256), WatchedModel(DRAFT, context_length=256)
    async with loopback(*models, VOCABULARY) as both:
        with pytest.raises(ConfigError, match="a stop token id is 8; expected an integer from 0 to 7"):
            await generate(both.client, make_request(stop_token_ids=(3, 8)))
        with pytest.raises(ConfigError, match="stop_token_ids holds 65 ids; expected at most 64"):
            await generate(both.client, make_request(stop_token_ids=tuple(range(65))))
