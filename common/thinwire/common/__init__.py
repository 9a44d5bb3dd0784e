"""
What both ends share; no room imports a side.

    errors, config, causal_model, release, demo_pair    flat: what every room may know
    law/             the mathematics: numpy and nothing else
    schemes/         one file a scheme
    session/         what a session says and where it stands, as plain data
    wire/            the only door to generated code (pb/) and to gRPC's objects
    language_model/  the only door to torch and transformers
    door/            who may come in: TLS, tokens, tenants, bounds on strangers
    daemon/          what every process of ours does: arguments, streams, exit codes, start and stop
    observe/         log lines, metrics, spans
"""
