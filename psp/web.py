"""Requests that stay on https and fail in one line; web pages told from files, and what a page wants from the user."""

from __future__ import annotations

import html
import http.client
import re
import ssl
import urllib.error
import urllib.request
from email.message import Message
from urllib.parse import urlparse

from psp.errors import UserError

_DRIVE = re.compile(r"https://drive\.google\.com/(?:file/d/|open\?id=|uc\?(?:.*&)?id=)([\w-]+)")


class SourceError(UserError):
    """This address does not give the file; another one may."""


class Broken(Exception):
    """The connection failed in a way that another attempt may mend; `wait` is the server's wish, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


def direct_url(url: str) -> str:
    """The address of the bytes themselves for a Google Drive page; other addresses as they are."""
    found = _DRIVE.match(url)
    return f"https://drive.usercontent.google.com/download?id={found[1]}&export=download&confirm=t" if found else url


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: object, code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        to = urlparse(newurl).scheme
        if to not in ("http", "https") or (req.type == "https" and to != "https"):
            raise SourceError(f"{req.full_url} leads to an address without https ({plain(newurl)[:120]}); not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def open_url(url: str, headers: dict[str, str], timeout: float) -> http.client.HTTPResponse:
    """The answer to a GET. HTTPError for a status that is none of success; Broken, SourceError as they say."""
    request = urllib.request.Request(url, headers=headers)
    if request.type not in ("http", "https"):
        raise SourceError(f"{request.full_url}: only https and http addresses can be fetched")
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except (urllib.error.HTTPError, SourceError):
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise SourceError(f"{request.full_url}: its certificate is not valid ({reason.verify_message})") from error
        raise Broken(network_reason(reason)) from error


def network_reason(error: object) -> str:
    """What went wrong on the way, in a few words."""
    if isinstance(error, TimeoutError):
        return "the server is silent"
    text = getattr(error, "strerror", None) or str(error)
    return f"no connection ({plain(text)[:160]})"


def is_page(data: bytes) -> bool:
    """Whether a file that begins so is a web page."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def page_reason(url: str, page: bytes, came_from: str = "") -> str:
    """Why a web page came from `url` (or lies there) instead of a file, and what to do. page: its beginning."""
    text = page.decode("utf-8", "replace")
    found = re.search(r"<title[^>]*>(.*?)</title", text, re.IGNORECASE | re.DOTALL)
    title = plain(html.unescape(found[1]))[:100] if found else ""
    said = (title + " " + text).lower()
    if "quota" in said:
        why = "its download quota is used up, which lasts about a day"
    elif urlparse(came_from).hostname == "accounts.google.com" or "sign in" in said or "log in" in said:
        why = "it asks for a login"
    elif "virus" in said:
        why = "it asks for a confirmation"
    else:
        why = "the server sent a web page"
    quoted = f" ({title!r})" if title else ""
    return f"{url}: {why}{quoted}; open it in a browser, save the file under its name, then --from ITS_FOLDER"


def plain(text: str) -> str:
    """One line without control characters: a stranger's words, for a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
