#!/usr/bin/env bash
# Package: grpcio==1.85.1
#
# Expected: grpc.http2.bdp_probe=0 switches off a measurement, and a message on a stream that is open, to a
#   server that waits for it, takes one round trip to be answered, whatever its length.
# Seen: at both ends switched off, each message of 65 531 bytes and more (with gRPC's 5 bytes of framing, one more
#   than HTTP/2's first window) takes two round trips, the last as the first: the window of the stream never
#   grows. 65 530 bytes take one. grpc.http2.lookahead_bytes at the server, which is said to be about reading
#   ahead, brings it back to one; so does the probe, which is on where nothing is said.
# Output, through a relay that holds bytes back for 50 ms each way, fastest of four:
#   no options: 65530 bytes 0.10 s, 65531 bytes 0.10 s, ratio 1.0
#   bdp_probe=0: 65530 bytes 0.10 s, 65531 bytes 0.20 s, ratio 2.0
#   bdp_probe=0, lookahead_bytes=262144: 65530 bytes 0.10 s, 65531 bytes 0.10 s, ratio 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --no-compile "grpcio==1.85.1"
"$folder/venv/bin/python" - <<'END'
import asyncio
import sys
import time

import grpc

DELAY_S = 0.05
"""Each way."""
NO_PROBE = ("grpc.http2.bdp_probe", 0)
LOOKAHEAD = ("grpc.http2.lookahead_bytes", 262144)


async def carry(reader, writer):
    """Bytes of one direction, each as much later as the others."""
    loop = asyncio.get_running_loop()
    while received := await reader.read(1 << 20):
        loop.call_later(DELAY_S, writer.write, received)
    loop.call_later(DELAY_S, writer.close)


async def answer(requests, context):
    """One byte for each message."""
    async for _ in requests:
        yield b"x"


async def measure(client_options, server_options):
    """Seconds from a message to its answer, of 65 530 and of 65 531 bytes, fastest of four."""
    server = grpc.aio.server(options=server_options)
    server.add_registered_method_handlers("demo", {"Talk": grpc.stream_stream_rpc_method_handler(answer)})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def accept(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, back), carry(there, writer))

    relay = await asyncio.start_server(accept, "127.0.0.1", 0)
    address = "127.0.0.1:{}".format(relay.sockets[0].getsockname()[1])
    fastest = []
    async with grpc.aio.insecure_channel(address, options=client_options) as channel:
        call = channel.stream_stream("/demo/Talk")(timeout=60)
        for size in (1, 65530, 65531):  # the first opens the connection and the stream
            took = []
            for _ in range(4):
                begun = time.perf_counter()
                await call.write(bytes(size))
                await call.read()
                took.append(time.perf_counter() - begun)
                await asyncio.sleep(4 * DELAY_S)  # window updates under way arrive
            fastest.append(min(took))
        await call.done_writing()
        await call.code()
    await server.stop(1)
    relay.close()
    await asyncio.sleep(4 * DELAY_S)  # the relay's connections end
    return fastest[1:]


async def main():
    """With the probe, without, and with the look-ahead in its place."""
    ratios = []
    for name, client_options, server_options in (
        ("no options", [], []),
        ("bdp_probe=0", [NO_PROBE], [NO_PROBE]),
        ("bdp_probe=0, lookahead_bytes=262144", [NO_PROBE], [NO_PROBE, LOOKAHEAD]),
    ):
        short, long = await measure(client_options, server_options)
        ratios.append(long / short)
        print(f"{name}: 65530 bytes {short:.2f} s, 65531 bytes {long:.2f} s, ratio {ratios[-1]:.1f}")
    return ratios


default, without, ahead = asyncio.run(main())
if without < 1.7 or max(default, ahead) > 1.3:
    sys.exit("This has changed: expected a ratio near 2 with the probe off alone, and near 1 otherwise.")
END
