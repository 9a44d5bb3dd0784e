"""An edge without a draft model: the tokenizer alone, and what such an edge can be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from thinwire.common.causal_model import Extended, ExtendRequest, ServedModel, Vocabulary
from thinwire.common.errors import ConfigError, LocalProtocolError
from thinwire.common.schemes import find_scheme, make_scheme, scheme_names
from thinwire.common.schemes.base import Scheme
from thinwire.common.session.generation import GenerationRequest


class NoDraftModel:
    """A `CausalModel` that holds no token, and so is never asked to draft one."""

    context_length = 0
    takes_trees = False

    def __init__(self, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size

    def open_sequence(self, *, reserve_tokens: int = 0) -> EmptySequence:
        """A sequence without room."""
        return EmptySequence()

    def extend_batch(self, requests: Sequence[ExtendRequest]) -> list[Extended]:
        """There is nothing to extend."""
        raise _fed()


class EmptySequence:
    """A `CachedSequence` of no tokens."""

    length = 0

    def extend(self, token_ids: Sequence[int], *, logit_rows: int, parents: Sequence[int] = ()) -> NoReturn:
        """LocalProtocolError: whoever drafts has asked for the model's room before."""
        raise _fed()

    def truncate(self, length: int) -> None:
        """Nothing to do."""

    def keep(self, length: int, path: Sequence[int]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


def served_without_draft(vocabulary: Vocabulary) -> ServedModel:
    """What an edge with this tokenizer alone serves; of no name, dtype or device."""
    return ServedModel(model=NoDraftModel(vocabulary.identity.size), vocabulary=vocabulary)


def has_draft(served: ServedModel) -> bool:
    """Whether there is a draft model."""
    return served.model.context_length > 0


def servable_schemes(served: ServedModel) -> tuple[str, ...]:
    """Names of the schemes that this edge serves; without a draft model those that need none."""
    names = scheme_names()
    if has_draft(served):
        return names
    kinds = {name: find_scheme(name) for name in names}
    return tuple(name for name, kind in kinds.items() if kind.may_run_free or kind.max_draft_length == 0)


def asked_scheme(asked: GenerationRequest, served: ServedModel) -> Scheme:
    """
    The scheme that a request asks for.

    Raises:
        ConfigError: it drafts in rounds and there is no draft model, or it has no use for a prediction.
    """
    scheme = make_scheme(asked.scheme, vocabulary_size=served.vocabulary.identity.size)
    if asked.prediction and not scheme.runs_free:
        raise ConfigError(
            f"prediction came with {_named(scheme)}, whose target waits for drafts; expected scheme coupled, "
            "whose target writes on.",
            setting="prediction",
        )
    drafts = min(asked.draft_length, scheme.max_draft_length) > 0 and not scheme.runs_free
    if drafts and not has_draft(served):
        raise ConfigError(
            f"scheme is {_named(scheme)}, which drafts, and this edge has no draft model (thinwire edge "
            "--no-draft); expected coupled, cloud-ar, or a draft length of 0.",
            setting="scheme",
        )
    return scheme


def _named(scheme: Scheme) -> str:
    waits = scheme.may_run_free and not scheme.runs_free
    return f"{scheme.name} in lock step" if waits else scheme.name


def _fed() -> LocalProtocolError:
    return LocalProtocolError("tokens came for a draft model that is not there; expected none.")
