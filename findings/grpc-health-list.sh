#!/usr/bin/env bash
# Package: grpcio-health-checking==1.85.1 (with grpcio==1.85.1)
#
# Expected: the package's own servicer answers each method of the contract that the package ships: Health/List
#   gives the status of every service. Or it refuses List as any method that a server does not have, with
#   UNIMPLEMENTED and nothing in the server's log.
# Seen: health.aio.HealthServicer has no List: the generated method is called, and raises. The caller gets
#   UNIMPLEMENTED with the name of a Python class in the text, and the server logs an error with a traceback for
#   each call, as for a fault of its own.
# Output:
#   Check: SERVING
#   List: UNIMPLEMENTED: Unexpected <class 'NotImplementedError'>: Method not implemented!
#   a method that no server has: UNIMPLEMENTED: Method not found!
#   logged, with a traceback: ERROR Unexpected [NotImplementedError] raised by servicer method [/grpc.health.v1.Health/List]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --no-compile "grpcio==1.85.1" "grpcio-health-checking==1.85.1"
"$folder/venv/bin/python" - <<'END'
import asyncio
import logging
import sys

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

records = []


class Kept(logging.Handler):
    """Keeps what is logged."""

    def emit(self, record):
        """Keep it."""
        records.append(record)


async def refusal(call):
    """Of a call, in words."""
    try:
        return f"answered {await call}"
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"


async def main():
    """Ask a server that has the servicer alone."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        status = (await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)).status
        nowhere = await refusal(channel.unary_unary("/grpc.health.v1.Health/Nowhere")(b"", timeout=10))
        before = len(records)
        listed = await refusal(stub.List(health_pb2.HealthListRequest(), timeout=10))
    await server.stop(0)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status), listed, nowhere, before


logging.getLogger("grpc").addHandler(Kept())
status, listed, nowhere, before = asyncio.run(main())
print(f"Check: {status}")
print(f"List: {listed}")
print(f"a method that no server has: {nowhere}")
for record in records:
    traceback = "with a traceback" if record.exc_info or "Traceback" in record.getMessage() else "alone"
    print(f"logged, {traceback}: {record.levelname} {record.getMessage().splitlines()[0]}")
if nowhere != "UNIMPLEMENTED: Method not found!":
    sys.exit("This has changed: expected UNIMPLEMENTED of a method that is nowhere.")
if status != "SERVING" or before or len(records) != 1 or not records[0].exc_info:
    sys.exit("This has changed: expected SERVING of Check, and one error in the log, of List.")
if listed != "UNIMPLEMENTED: Unexpected <class 'NotImplementedError'>: Method not implemented!":
    sys.exit("This has changed: expected List to be refused with the name of a Python class.")
END
