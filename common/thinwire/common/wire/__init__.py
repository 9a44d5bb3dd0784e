"""
The only door to generated code: domain dataclasses ↔ protobuf, errors ↔ gRPC status, channels and servers.

Import the parts from here: `from thinwire.common import wire`.
"""

from thinwire.common.wire.client_messages import edge_status_from_proto as edge_status_from_proto
from thinwire.common.wire.client_messages import edge_status_to_proto as edge_status_to_proto
from thinwire.common.wire.client_messages import generate_request_from_proto as generate_request_from_proto
from thinwire.common.wire.client_messages import generate_request_to_proto as generate_request_to_proto
from thinwire.common.wire.client_messages import generation_event_from_proto as generation_event_from_proto
from thinwire.common.wire.client_messages import generation_event_to_proto as generation_event_to_proto
from thinwire.common.wire.client_messages import get_status_request as get_status_request
from thinwire.common.wire.client_messages import server_info_from_proto as server_info_from_proto
from thinwire.common.wire.client_messages import server_info_to_proto as server_info_to_proto
from thinwire.common.wire.credentials import call_metadata as call_metadata
from thinwire.common.wire.credentials import open_channel as open_channel
from thinwire.common.wire.credentials import wrong_protection as wrong_protection
from thinwire.common.wire.guarded_server import GuardedServer as GuardedServer
from thinwire.common.wire.guarded_server import credential_of as credential_of
from thinwire.common.wire.health import HealthReporter as HealthReporter
from thinwire.common.wire.health import is_serving as is_serving
from thinwire.common.wire.health import serving_status as serving_status
from thinwire.common.wire.outbox import Outbox as Outbox
from thinwire.common.wire.session_messages import CloudStreamReader as CloudStreamReader
from thinwire.common.wire.session_messages import EdgeStreamWriter as EdgeStreamWriter
from thinwire.common.wire.session_messages import closed_to_proto as closed_to_proto
from thinwire.common.wire.session_messages import message_from_cloud as message_from_cloud
from thinwire.common.wire.session_messages import reply_to_proto as reply_to_proto
from thinwire.common.wire.session_messages import server_info_request as server_info_request
from thinwire.common.wire.status import abort_with as abort_with
from thinwire.common.wire.status import error_from_rpc as error_from_rpc
from thinwire.common.wire.status import reason_of as reason_of
from thinwire.common.wire.transport import GENERATOR_SERVICE as GENERATOR_SERVICE
from thinwire.common.wire.transport import MAX_GENERATE_BYTES as MAX_GENERATE_BYTES
from thinwire.common.wire.transport import VERIFIER_SERVICE as VERIFIER_SERVICE
from thinwire.common.wire.transport import GeneratorServicer as GeneratorServicer
from thinwire.common.wire.transport import GeneratorStub as GeneratorStub
from thinwire.common.wire.transport import VerifierServicer as VerifierServicer
from thinwire.common.wire.transport import VerifierStub as VerifierStub
from thinwire.common.wire.transport import add_generator as add_generator
from thinwire.common.wire.transport import add_verifier as add_verifier
from thinwire.common.wire.transport import channel_options as channel_options
from thinwire.common.wire.transport import server_options as server_options
