"""gRPC credentials made of an identity folder.

A server asks for the newest certificate at each handshake; a channel keeps the one it was made with, which is why ``core.rpc.mesh`` makes a
new one when the identity changes.
"""

import threading
from typing import Any

import grpc
import grpc.aio

from picontroller.core.tls.identity import IdentityFolder

# Large enough for a batch of events, small enough that rubbish can't fill a Pi's memory.
LARGEST_MESSAGE_BYTES = 4 * 1024 * 1024
LARGEST_METADATA_BYTES = 16 * 1024

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In truth the shortest time that a connection may take to be made: a busy Pi needs more than 100 ms for a handshake.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)


def server_credentials(identity: IdentityFolder) -> grpc.ServerCredentials:
    """Return credentials that demand a client certificate under our roots and follow every change of ``identity``."""
    mutex = threading.Lock()
    served = -1

    def configuration() -> grpc.ServerCertificateConfiguration:
        credentials = identity.credentials
        return grpc.ssl_server_certificate_configuration(
            [(credentials.key_pem, credentials.chain_pem)], root_certificates=identity.trust.roots_pem
        )

    def newest() -> Any:  # None means unchanged, which the stubs do not know
        nonlocal served
        with mutex:
            if served == identity.version:
                return None
            served = identity.version
            return configuration()

    return grpc.dynamic_ssl_server_credentials(configuration(), newest, require_client_authentication=True)


def channel(identity: IdentityFolder, address: str, name: str) -> grpc.aio.Channel:
    """Return a channel to ``address`` that proves ``identity`` and accepts only a server called ``name`` under our roots."""
    credentials = identity.credentials
    secrets = grpc.ssl_channel_credentials(identity.trust.roots_pem, credentials.key_pem, credentials.chain_pem)
    options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))
    return grpc.aio.secure_channel(address, secrets, options=options)


def anonymous_channel(roots_pem: bytes, address: str, name: str) -> grpc.aio.Channel:
    """Return a channel without a client certificate, for those who have none yet."""
    options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots_pem), options=options)
