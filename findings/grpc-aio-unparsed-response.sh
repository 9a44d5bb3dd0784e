#!/usr/bin/env bash
# Package: grpcio==1.85.1
#
# Expected: a response that the client's response_deserializer refuses ends the call with an error in grpc.aio
#   too, as it does with the other client: StatusCode.INTERNAL, "Exception deserializing response!".
# Seen: grpc.aio gives out None in its place, the stream goes on to its later messages, and the call's status is
#   OK. A reader that takes None for nothing more reads a stream cut short for a whole one. A unary call returns
#   None and OK. Without logging set up nothing is written either.
# Output:
#   grpc      stream: [1], then INTERNAL: Exception deserializing response!
#   grpc.aio  stream, async for: [1, None, 3], OK
#   grpc.aio  stream, read(): [1, None, 3, <grpc.aio.EOF>], OK
#   grpc.aio  unary: None, OK
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --no-compile "grpcio==1.85.1"
"$folder/venv/bin/python" - <<'END'
import asyncio
import sys
from concurrent import futures

import grpc


def stream(request, context):
    """Three messages; the deserializer, int, refuses the second."""
    yield from (b"1", b"two", b"3")


def unary(request, context):
    """One message that the deserializer refuses."""
    return b"two"


def with_threads(address):
    """What the client that is not asyncio's makes of the stream."""
    got = []
    with grpc.insecure_channel(address) as channel:
        try:
            for message in channel.unary_stream("/demo/Stream", response_deserializer=int)(b""):
                got.append(message)
        except grpc.RpcError as error:
            return got, error.code().name, error.details()
    return got, "OK", ""


async def with_asyncio(address):
    """What grpc.aio's makes of both."""
    async with grpc.aio.insecure_channel(address) as channel:
        stream = channel.unary_stream("/demo/Stream", response_deserializer=int)
        call = stream(b"", timeout=10)
        iterated = [message async for message in call], (await call.code()).name
        call = stream(b"", timeout=10)
        read = [await call.read() for _ in range(4)], (await call.code()).name
        call = channel.unary_unary("/demo/Unary", response_deserializer=int)(b"", timeout=10)
        return iterated, read, (await call, (await call.code()).name)


server = grpc.server(futures.ThreadPoolExecutor(2))
handlers = {
    "Stream": grpc.unary_stream_rpc_method_handler(stream),
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
}
server.add_registered_method_handlers("demo", handlers)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
threads = with_threads(f"127.0.0.1:{port}")
iterated, read, single = asyncio.run(with_asyncio(f"127.0.0.1:{port}"))
server.stop(0)

print(f"grpc      stream: {threads[0]}, then {threads[1]}: {threads[2]}")
print(f"grpc.aio  stream, async for: {iterated[0]}, {iterated[1]}")
print(f"grpc.aio  stream, read(): {read[0]}, {read[1]}")
print(f"grpc.aio  unary: {single[0]}, {single[1]}")
if threads != ([1], "INTERNAL", "Exception deserializing response!"):
    sys.exit("This has changed: expected INTERNAL of the client with threads.")
if iterated != ([1, None, 3], "OK") or read != ([1, None, 3, grpc.aio.EOF], "OK") or single != (None, "OK"):
    sys.exit("This has changed: expected None and OK of grpc.aio.")
END
