"""
Where the two ends agree, recorded once: the target's own text, and the draft's law along it.

A text of scheme `coupled` is a function of target, prompt, sampling and seed alone, so it is written once and
holds for every link. Of the draft's law at a position only the ids that come in first in the race over it are
kept, with their probabilities, and the likeliest: over them the race ends as over the whole law.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.pair import load_pair, read_prompts
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import ConfigError
from thinwire.common.law.distributions import warp
from thinwire.common.law.random_streams import KeyedDraws, Stream

MATCHES = Path("bench/results/matches")
"""Where recorded texts are kept."""
RUNNERS = 8
"""Ids kept of a law: those that win when what would have won is taken away."""

Law = tuple[tuple[int, float], ...]
"""Ids and their probabilities, the likeliest among them."""


class _Draws(KeyedDraws):
    """A race is run once: over recorded laws its ids say which one it is."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._raced: dict[tuple[int, bytes], tuple[int, float]] = {}

    def race(self, stream: Stream, position: int, weights: npt.NDArray[Any]) -> tuple[int, float]:
        key = position, weights.nonzero()[0].tobytes()
        if key not in self._raced:
            self._raced[key] = super().race(stream, position, weights)
        return self._raced[key]


@dataclass(frozen=True)
class Matches:
    """One text, and the draft's law before each of its tokens."""

    seed: int
    temperature: float
    vocabulary_size: int
    prompt_ids: tuple[int, ...]
    text_ids: tuple[int, ...]
    laws: tuple[Law, ...]

    @cached_property
    def draws(self) -> _Draws:
        """The text's randomness."""
        return _Draws(self.seed)

    @property
    def text_sha256(self) -> str:
        """As the benchmark's lines name a text."""
        packed = struct.pack(f"<{len(self.text_ids)}I", *self.text_ids)
        return hashlib.sha256(packed).hexdigest()

    @cached_property
    def _rows(self) -> dict[tuple[int, bool], npt.NDArray[np.float64]]:
        return {}

    def token(self, position: int) -> int:
        """The text's at an absolute position; -1 behind its end."""
        place = position - len(self.prompt_ids)
        return self.text_ids[place] if place < len(self.text_ids) else -1

    def law(self, position: int, *, is_right: bool) -> npt.NDArray[np.float64]:
        """
        The draft's law, (V,), without what cannot win; the same array for the same question.

        Args:
            position: absolute index of the token to guess.
            is_right: whether what stands before it is the text. Behind a wrong guess the draft is as sure as
                it is there behind the text, of other ids than the text's.
        """
        row = self._rows.get((position, is_right))
        if row is None:
            row = np.zeros(self.vocabulary_size)
            for token_id, share in self.laws[min(position - len(self.prompt_ids), len(self.laws) - 1)]:
                row[token_id if is_right else self._other(token_id, position)] += share
            self._rows[position, is_right] = row
        return row

    def _other(self, token_id: int, position: int) -> int:
        """An id in its place that is not the text's."""
        other = (token_id + self.vocabulary_size // 2) % self.vocabulary_size
        return other if other != self.token(position) else token_id


def record(temperature: float, prompts: int, tokens: int, seed: int = 1) -> list[Matches]:
    """
    Have the bundled pair write the first prompts' texts; some seconds a text.

    Args:
        seed: of the first prompt; one more for each further prompt, as the benchmark counts.
    """
    target, draft = load_pair()
    sampling, size = SamplingParameters(temperature=temperature), target.vocabulary_size
    found = []
    for turn, prompt in enumerate(read_prompts()[:prompts]):
        draws, prompt_ids = KeyedDraws(seed + turn), list(target.vocabulary.encode(prompt))
        sequence, text, feed = target.open_sequence(), [], prompt_ids
        for position in range(len(prompt_ids), len(prompt_ids) + tokens):
            row = sequence.extend(feed, logit_rows=1)[0]
            feed = [draws.race(Stream.COUPLED, position, warp(row, sampling))[0]]
            text += feed
        sequence.close()
        sequence = draft.open_sequence()
        rows = sequence.extend(prompt_ids + text[:-1], logit_rows=tokens)
        sequence.close()
        laws = [
            _law(warp(row, sampling, dtype=np.float32), draws, len(prompt_ids) + place)
            for place, row in enumerate(rows)
        ]
        found.append(Matches(seed + turn, temperature, size, tuple(prompt_ids), tuple(text), tuple(laws)))
    return found


def recorded(folder: Path, temperature: float, prompts: int, tokens: int) -> list[Matches]:
    """As `record`, kept in a file of the folder."""
    path = folder / f"matches-{temperature:g}-{prompts}-{tokens}.jsonl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write(path, record(temperature, prompts, tokens))
    return read(path)


def write(path: Path, matches: Sequence[Matches]) -> None:
    """A line a text."""
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in matches), encoding="utf-8")


def read(path: Path) -> list[Matches]:
    """ConfigError if there is none in it."""
    found = [_of_line(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    if not found:
        raise ConfigError(f"{path} holds no recorded text; expected one a line.")
    return found


def _of_line(line: dict[str, Any]) -> Matches:
    laws = tuple(tuple((int(token_id), float(share)) for token_id, share in law) for law in line.pop("laws"))
    prompt_ids, text_ids = tuple(line.pop("prompt_ids")), tuple(line.pop("text_ids"))
    return Matches(**line, prompt_ids=prompt_ids, text_ids=text_ids, laws=laws)


def _law(probs: npt.NDArray[np.float32], draws: KeyedDraws, position: int) -> Law:
    """The first `RUNNERS` of the race, and the likeliest id."""
    left: npt.NDArray[Any] = probs.copy()
    kept = {int(probs.argmax())}
    for _ in range(min(RUNNERS, int((probs > 0).sum()))):
        winner, _ = draws.race(Stream.COUPLED, position, left)
        kept.add(winner)
        left[winner] = 0.0
    return tuple((token_id, round(float(probs[token_id]), 9)) for token_id in sorted(kept))
