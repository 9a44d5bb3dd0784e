"""
What a user would pick instead of Thinwire: the target in the cloud, its tokens streamed over the same link.

Four ways behind one gRPC server-stream, with one framing: `messages` is the contract, `ways` generates,
`service` serves, `forward_watch` times the models' passes and paces the target's (`pacing`).
"""
