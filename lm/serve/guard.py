"""Who may ask: requests of other web sites and of strangers are turned away before any work.

A page of another site can make a browser send requests to this server. They are told by `Origin`
and `Sec-Fetch-Site`; and by `Host`, where a name was pointed at this machine to get around both.
"""

import hmac
import ipaddress
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "lm_token"
POLICY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host of this name."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


class Guard:
    """Lets through what comes from the server's own pages, from programs, and with the token.

    `token`: what must be shown, as a bearer token or once as `?token=`; None: nothing.
    `loopback`: the server is bound to this machine alone.
    """

    def __init__(self, app: ASGIApp, token: str | None, loopback: bool):
        self.app, self.token, self.loopback = app, token, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        response = self.turned_away(request)
        if response is not None:
            await response(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), text.encode()) for name, text in POLICY.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await self.app(scope, receive, guarded)

    def turned_away(self, request: Request) -> Response | None:
        """The answer to a request that may not pass."""
        host = request.headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if self.loopback and not is_loopback(name):
            return refusal(403, "this server answers to localhost alone")
        if request.method not in ("GET", "HEAD"):
            origin = request.headers.get("origin")
            if origin is not None and origin.partition("://")[2] != host:
                return refusal(403, "a request of another site")
            if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return refusal(403, "a request of another site")
        if self.token is None:
            return None
        query = parse_qs(request.url.query)
        if same(query.pop("token", [""])[-1], self.token):
            rest = "?" + urlencode(query, doseq=True) if query else ""
            # one slash: "//name" would lead to another site
            answer = RedirectResponse("/" + request.url.path.lstrip("/") + rest, status_code=303)
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            return answer
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        if same(shown, self.token) or same(request.cookies.get(COOKIE, ""), self.token):
            return None
        if request.url.path == "/health" and request.method in ("GET", "HEAD"):
            return JSONResponse({"status": "alive"})  # whoever watches it may know that, not more
        return refusal(401, "show the token: Authorization: Bearer TOKEN, or ?token=TOKEN once")


def same(shown: str, token: str) -> bool:
    return hmac.compare_digest(shown.encode(), token.encode())


def refusal(status: int, message: str) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status_code=status)
