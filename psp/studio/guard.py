"""Who may talk to the studio, and what browsers are told about its pages. Plain functions on header values."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Mapping

from psp.studio.limits import Refused

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), interest-cohort=()",
}


def host_name(header: str) -> str:
    """The name in a Host header without the port: "[::1]:5000" -> "::1"."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def check_host(header: str, allowed: Collection[str]) -> None:
    """Refuse names that somebody else's DNS may point at this machine (DNS rebinding).

    Addresses cannot be rebound and are fine, as are localhost and the names in `allowed`.
    """
    name = host_name(header)
    if name in ("localhost", *allowed) or name.endswith(".localhost"):
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise Refused(421, "The studio does not answer to that host name; start it with --allow_host.") from None


def address_for_others(host: str) -> str | None:
    """The address by which other machines reach a server that listens at `host`; None where they cannot.

    For 0.0.0.0 and :: it is that of the interface which leads outside. Nothing is sent.
    """
    try:
        entries = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None  # no address of this machine; the server says so
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in entries]
    if all(address.is_loopback for address in addresses):
        return None
    address = addresses[0]
    if not address.is_unspecified:
        return f"[{host}]" if ":" in host else host
    six = address.version == 6
    try:
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("2001:db8::1" if six else "192.0.2.1", 9))  # addresses for documentation: nobody's
            outside = str(probe.getsockname()[0])
    except OSError:  # not connected to anything
        return socket.gethostname()
    return f"[{outside}]" if six else outside


def check_sender(method: str, headers: Mapping[str, str], host: str) -> None:
    """Refuse what another web site's page sends: only GET may come from elsewhere."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return
    site, origin = headers.get("Sec-Fetch-Site", "none"), headers.get("Origin")
    foreign = origin is not None and origin.partition("://")[2].lower() != host.lower()
    if site not in ("same-origin", "none") or foreign:
        raise Refused(403, "Requests of other web sites are not answered.")
