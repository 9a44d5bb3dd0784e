"""Bad input to the edge: each with its status, the value received and expected, and the edge serving on."""

from __future__ import annotations

from typing import Any

import grpc
import numpy.typing as npt
import pytest

from fakes import TableModel, TableVocabulary, random_table
from loopback import Loopback, generate, loopback, make_request, request_message
from thinwire.common import wire
from thinwire.common.causal_model import ServedModel
from thinwire.common.errors import (
    ConfigError,
    NonFiniteLogitsError,
    ThinwireError,
    TransportError,
    VocabularyMismatchError,
)
from thinwire.edge.daemon import EdgeServer
from thinwire.edge.settings import EdgeSettings

SIZE = 6
VOCABULARY = TableVocabulary(SIZE)
LAW = random_table(3, SIZE, zeros=False)


def model(context_length: int = 64) -> TableModel:
    """A small table."""
    return TableModel(LAW, context_length=context_length)


SERVED = ServedModel(model=model(), vocabulary=VOCABULARY)


async def serves_on(both: Loopback) -> None:
    """A good request still gets its text."""
    done = await generate(both.client, make_request(max_tokens=4))
    assert len(done.tokens) == 4


def changed(**fields: Any) -> Any:
    """A good GenerateRequest with fields set past the client's own checks; `scheme__x` sets scheme.x."""
    message = request_message(make_request(max_tokens=4, draft_length=2, min_block_acceptance=0.0))
    for name, value in fields.items():
        *outer, leaf = name.split("__")
        owner = message
        for part in outer:
            owner = getattr(owner, part)
        if isinstance(value, list):
            getattr(owner, leaf).extend(value)
        else:
            setattr(owner, leaf, value)
    return message


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"scheme__k_sqs__support_size": 0}, "support_size is 0; expected an integer from 1 to 256"),
    ({"scheme__k_sqs__support_size": 257}, "support_size is 257"),
    ({"scheme__c_sqs__max_support_size": 0}, "max_support_size is 0"),
    ({"scheme__k_sqs__lattice_resolution": 0}, "lattice_resolution is 0; expected an integer from 1 to 4096"),
    ({"scheme__k_sqs__lattice_resolution": 4097}, "lattice_resolution is 4097"),
    ({"scheme__c_sqs__threshold_step": 0.0}, "threshold_step"),
    ({"scheme__c_sqs__threshold_step": 1.5}, "threshold_step"),
    ({"scheme__c_sqs__target_dropped_mass": 1.0}, "target_dropped_mass is 1.0; expected a number in"),
    ({"scheme__c_sqs__initial_threshold": 1.1}, "initial_threshold"),
    ({"scheme__c_sqs__initial_threshold": float("nan")}, "initial_threshold"),
    ({"scheme__custom__name": "nonesuch"}, "scheme is 'nonesuch'; expected one of k-sqs, c-sqs, dense-qs"),
    ({"draft_length": 65}, "draft_length is 65; expected an integer from 0 to 64"),
    ({"min_block_acceptance": 1.0}, "min_block_acceptance is 1.0; expected a number in [0, 1)"),
    ({"min_block_acceptance": float("nan")}, "min_block_acceptance is nan"),
    ({"sampling__temperature": 0.001}, "temperature is 0.001; expected 0"),
    ({"sampling__temperature": 11.0}, "temperature is 11.0"),
    ({"sampling__temperature": float("nan")}, "temperature is nan"),
    ({"sampling__top_p": 0.0}, "top_p is 0.0; expected a number in"),
    ({"sampling__top_p": 1.1}, "top_p is 1.1"),
    ({"max_tokens": 0}, "max_tokens is 0; expected an integer from 1"),
    ({"stop": ["x" * 257]}, "a stop string has 257 characters; expected 1 to 256"),
    ({"stop": [""]}, "a stop string has 0 characters"),
    ({"stop": ["x"] * 17}, "stop holds 17 strings; expected at most 16"),
    ({"prompt": ""}, "the prompt holds 0 tokens; expected at least 1"),
    ({"prompt": "a" * 64}, "the prompt holds 64 tokens; expected at most 63"),
]


async def test_parameters_out_of_range_are_refused_by_name_and_value() -> None:
    """INVALID_ARGUMENT with reason PARAMETER_OUT_OF_RANGE for each; the edge serves on after all of them."""
    async with loopback(model(), model(), VOCABULARY) as both:
        async with grpc.aio.insecure_channel(both.edge_address) as channel:
            stub = wire.GeneratorStub(channel)
            for fields, sentence in BAD_FIELDS:
                call = stub.Generate(changed(**fields))
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    async for _ in call:
                        pass
                error = wire.error_from_rpc(caught.value)

                assert type(error) is ConfigError, fields
                assert sentence in error.message, fields
        await serves_on(both)
        assert both.cloud.sessions == 0


async def test_vocabularies_that_differ_are_refused() -> None:
    """FAILED_PRECONDITION at Open, in size as in content."""
    for other in (TableVocabulary(SIZE, salt="other"), TableVocabulary(SIZE + 1)):
        async with loopback(model(), model(), VOCABULARY, target_vocabulary=other) as both:
            with pytest.raises(VocabularyMismatchError, match="expected"):
                await generate(both.client, make_request())
            status = await both.client.status(timeout_s=5)

            assert status.generations == 0
            assert both.cloud.sessions == 0


async def test_a_prompt_longer_than_the_targets_context_is_refused() -> None:
    """The draft model has room, the target has not."""
    async with loopback(model(8), model(64), VOCABULARY) as both:
        with pytest.raises(ConfigError, match="the prompt holds 9 tokens; expected at most 7"):
            await generate(both.client, make_request("abcabcabc"))
        await serves_on(both)


@pytest.mark.parametrize("side", ["draft", "target"])
async def test_a_model_that_returns_nan_ends_only_its_generation(side: str) -> None:
    """INTERNAL with reason NON_FINITE_LOGITS; both daemons serve on and hold nothing."""

    def broken(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        if 5 in prefix[:1] and len(prefix) > 4:
            raise NonFiniteLogitsError("the logits hold nan; expected finite numbers.")
        return LAW(prefix)

    bad = TableModel(broken, vocabulary_size=SIZE, context_length=64)
    target, draft = (bad, model()) if side == "target" else (model(), bad)
    async with loopback(target, draft, VOCABULARY) as both:
        with pytest.raises(NonFiniteLogitsError, match="nan"):
            await generate(both.client, make_request("f", max_tokens=20))
        await serves_on(both)
    assert target.open_sequences == draft.open_sequences == 0


async def test_a_bug_in_a_model_is_an_internal_error_without_its_text() -> None:
    """What the peer may not see stays in the log."""

    def broken(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        if 5 in prefix:
            raise KeyError("secret")
        return LAW(prefix)

    draft = TableModel(broken, vocabulary_size=SIZE, context_length=64)
    async with loopback(model(), draft, VOCABULARY) as both:
        with pytest.raises(ThinwireError) as caught:
            await generate(both.client, make_request("f"))

        assert "KeyError" in caught.value.message
        assert "secret" not in caught.value.message
        assert both.cloud.sessions == 0
    assert draft.open_sequences == 0


async def test_a_port_in_use_is_a_transport_error() -> None:
    """The second daemon on one port says which."""
    async with loopback(model(), model(), VOCABULARY) as both:
        second = EdgeServer(SERVED, cloud_address="127.0.0.1:1")
        with pytest.raises(TransportError, match=f"cannot listen on {both.edge_address}"):
            await second.start(both.edge_address)
        await serves_on(both)


async def test_an_edge_is_not_serving_until_its_model_is_loaded() -> None:
    """Health says NOT_SERVING and Generate UNAVAILABLE; then both change."""
    edge = EdgeServer(None, cloud_address="127.0.0.1:1", settings=EdgeSettings(connect_timeout_s=0.2))
    address = f"127.0.0.1:{await edge.start('127.0.0.1:0')}"
    async with grpc.aio.insecure_channel(address) as channel:
        before = await wire.is_serving(channel, wire.GENERATOR_SERVICE, timeout_s=5)
        with pytest.raises(grpc.aio.AioRpcError, match="still loading") as caught:
            async for _ in wire.GeneratorStub(channel).Generate(changed()):
                pass
        await edge.model_loaded(SERVED)
        after = await wire.is_serving(channel, wire.GENERATOR_SERVICE, timeout_s=5)
    await edge.stop(0)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (before, after) == (False, True)
