"""Fetching the control plane's root before there is any reason to believe it.

The connection is not verified, because there is nothing yet to verify it with, and therefore nothing is sent but a request for a public
file. What comes back is worth something only after it was compared with the hash in the join token.
"""

import http.client
import ssl
import time

from picontroller.core.errors import InvalidArgument, Unavailable

PATH = "/ca.pem"
SECONDS = 10.0
LARGEST_BYTES = 64 * 1024
DEFAULT_PORT = 8443


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST[:PORT]`` or ``[IPv6][:PORT]``. Raises InvalidArgument ADDRESS_MALFORMED."""
    text = address.strip().removeprefix("https://").rstrip("/")
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    bare_ipv6 = ":" in host and "[" not in text
    if not host or bare_ipv6 or not port.isdigit() or not 0 < int(port) < 65536 or not host.isascii() or any(c in host for c in "/@ \t"):
        raise InvalidArgument(f"{address!r} is not an address; write HOST:PORT, for example 192.168.1.10:8443", reason="ADDRESS_MALFORMED")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Return ``HOST:PORT`` with the brackets that IPv6 needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def fetch_root(address: str) -> bytes:
    """Return what ``https://ADDRESS/ca.pem`` answers, unverified. Blocks for ten seconds at most, and takes at most 64 KiB.

    Raises Unavailable GATEWAY_UNREACHABLE with the next step.
    """
    host, port = split_address(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # see the module: the token's hash is what verifies the answer
    connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    deadline = time.monotonic() + SECONDS  # of the machine itself: the bound is on a thread that nothing else can end
    try:
        connection.request("GET", PATH, headers={"Host": join_address(host, port), "Connection": "close"})
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise _unreachable(address, f"it answers {response.status}; is it the gateway of a control plane?")
        content = bytearray()
        while chunk := response.read1(8192):
            content += chunk
            if len(content) > LARGEST_BYTES or time.monotonic() > deadline:
                raise _unreachable(address, f"{PATH} is too large or too slow to be a certificate")
        return bytes(content)
    except ssl.SSLError as error:
        raise _unreachable(address, f"it does not speak TLS 1.2 or later ({error.reason or 'handshake failed'})") from error
    except TimeoutError as error:
        raise _unreachable(address, f"no answer within {SECONDS:g} s; is a firewall in between?") from error
    except ConnectionRefusedError as error:
        raise _unreachable(address, "connection refused; is it running, and with --listen 0.0.0.0:8443?") from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(address, getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _unreachable(address: str, why: str) -> Unavailable:
    return Unavailable(f"no control plane answers at {address}: {why}", reason="GATEWAY_UNREACHABLE")
