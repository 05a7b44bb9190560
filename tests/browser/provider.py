"""A provider of OpenID Connect on this machine: people who sign in by a click on their name."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlparse

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "lab", "only the server knows it"


class Provider(ThreadingHTTPServer):
    """Serves what Streamlit asks a provider for.

    people: sub → name. issuer: its address.
    """

    def __init__(self, people: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.people = people
        self.issuer = f"http://127.0.0.1:{self.server_address[1]}"
        self.key = RSAKey.generate_key(2048, parameters={"kid": "one", "use": "sig", "alg": "RS256"})
        self.asked: dict[str, dict[str, str]] = {}  # code → who, and what the request for it said

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any]:
        """What a code is exchanged for, once, by the client that asked for it. Raises KeyError, ValueError."""
        asked = self.asked.pop(form["code"])
        known = base64.b64encode(f"{CLIENT}:{quote(SECRET)}".encode()).decode()
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        right = authorization in (f"Basic {known}", f"Basic {base64.b64encode(f'{CLIENT}:{SECRET}'.encode()).decode()}")
        if not right or proof != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            raise ValueError("not the client that asked")
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 600, "nonce": asked["nonce"]}
        claims |= {"sub": asked["sub"], "name": self.people[asked["sub"]]}
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)
        return {"access_token": secrets.token_hex(8), "token_type": "Bearer", "expires_in": 600, "id_token": token}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Provider

    def do_GET(self) -> None:
        """Metadata, keys, the page of names, and the way back."""
        path, query = self._parts()
        issuer = self.server.issuer
        if path == "/.well-known/openid-configuration":
            places = {f"{name}_endpoint": f"{issuer}/{name}" for name in ("authorization", "token", "end_session")}
            more = {"code_challenge_methods_supported": ["S256"], "id_token_signing_alg_values_supported": ["RS256"]}
            self._json({"issuer": issuer, "jwks_uri": f"{issuer}/jwks", **places, **more})
        elif path == "/jwks":
            self._json({"keys": [self.server.key.as_dict(private=False)]})
        elif path == "/authorization":
            links = [
                f'<p><a id="{sub}" href="/chosen?{html.escape(urlencode({**query, "sub": sub}))}">{sub}</a></p>'
                for sub in self.server.people
            ]
            self._answer("\n".join(links).encode(), "text/html")
        elif path == "/chosen":
            code = secrets.token_hex(8)
            self.server.asked[code] = query
            self._redirect(f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}")
        elif path == "/end_session":
            self._redirect(query["post_logout_redirect_uri"])
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """A code for a token."""
        length = int(self.headers["Content-Length"])
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        try:
            self._json(self.server.token(form, self.headers.get("Authorization", "")))
        except (KeyError, ValueError):
            self._answer(b'{"error": "invalid_grant"}', "application/json", 400)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def _parts(self) -> tuple[str, dict[str, str]]:
        parts = urlparse(self.path)
        return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}

    def _json(self, value: dict[str, Any]) -> None:
        self._answer(json.dumps(value).encode(), "application/json")

    def _redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def provided(people: dict[str, str]) -> Iterator[Provider]:
    """A provider that runs until the end of the block."""
    server = Provider(people)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
