"""Requests that stay on https and fail in one line; what a web page in the place of a file wants from the user."""

from __future__ import annotations

import html
import http.client
import re
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urljoin, urlparse

from psp.errors import UserError, one_line

REDIRECTS = (301, 302, 303, 307, 308)
_DRIVE = re.compile(r"https://drive\.google\.com/(?:file/d/|open\?id=|uc\?(?:.*&)?id=)([\w-]+)")


class SourceError(UserError):
    """This address does not give the file; another one may."""


class Broken(Exception):
    """The connection failed in a way that another attempt may mend; `wait` is the server's wish, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


class Offline(Broken):
    """No connection could be made at all."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *request: Any) -> None:
        return None


def open_url(url: str, headers: dict[str, str], timeout: float) -> Any:
    """The answer to a GET behind all redirects, whatever its status; from https to https alone.

    SourceError: the address leads elsewhere. Broken: no answer.
    """
    opener = urllib.request.build_opener(_NoRedirects)
    for _ in range(10):
        scheme = urlparse(url).scheme
        if scheme not in ("http", "https"):
            raise SourceError(f"{url}: only https and http addresses can be fetched")
        try:
            response: Any = opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
        except urllib.error.HTTPError as error:
            response = error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                message = error.reason.verify_message
                raise SourceError(f"{url}: its certificate is not valid ({message})") from error
            raise Offline(network_reason(error.reason)) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Broken(network_reason(error)) from error
        target = response.headers.get("Location")
        if response.status not in REDIRECTS or not target:
            return response
        response.close()
        url = redirected(url, target, response.status)
    raise SourceError(f"{url} leads to itself or on and on (HTTP {response.status})")


def redirected(url: str, target: str, status: int = 302) -> str:
    """Where a redirect leads; SourceError where that is neither https nor, from http, http."""
    try:
        to = urljoin(url, target)
        scheme = urlparse(to).scheme
    except ValueError:  # no address at all
        to, scheme = target, ""
    if scheme not in ("https", "http" if urlparse(url).scheme == "http" else "https"):
        raise SourceError(
            f"{url} leads to an address without https (HTTP {status}, {one_line(to)[:120]}); not followed"
        )
    return to


def direct_url(url: str) -> str:
    """The address of the bytes themselves for a Google Drive page; other addresses as they are."""
    match = _DRIVE.match(url)
    return f"https://drive.usercontent.google.com/download?id={match[1]}&export=download&confirm=t" if match else url


def page_reason(url: str, page: bytes, came_from: str = "") -> str:
    """Why a web page came from `url` (or lies there) instead of a file, and what to do. page: its beginning."""
    text = page.decode("utf-8", "replace")
    match = re.search(r"<title[^<>]*>([^<]*)", text, re.IGNORECASE)
    title = one_line(html.unescape(match[1]))[:100] if match else ""
    lowered = (title + " " + text).lower()
    if "quota" in lowered:
        why = "its download quota is used up, which lasts about a day"
    elif urlparse(came_from).hostname == "accounts.google.com" or "sign in" in lowered or "log in" in lowered:
        why = "it asks for a login"
    elif "virus" in lowered:
        why = "it asks for a confirmation"
    else:
        why = "the server sent a web page"
    quoted = f" ({title!r})" if title else ""
    return f"{url}: {why}{quoted}; open it in a browser, save the file under its name, then --from ITS_FOLDER"


def network_reason(error: object) -> str:
    """What went wrong on the way, in a few words."""
    if isinstance(error, TimeoutError):
        return "the server is silent"
    return f"no connection ({one_line(getattr(error, 'strerror', None) or str(error))[:160]})"
