"""What the Python SDK client needs to do OAuth: a storage in memory, and the walk through pages that a human
would make in a browser.

Not here: the flow itself, which is the SDK's.
"""

from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

REDIRECT = "http://127.0.0.1:1/callback"


async def browse(url, ends=None):
    """Follows redirects as a browser does, up to the first URL that ENDS the walk, or else to a page."""
    async with httpx2.AsyncClient() as browser:
        for _ in range(12):
            if ends and ends(url):
                return url
            response = await browser.get(url)
            if "location" in response.headers:
                url = urljoin(url, response.headers["location"])
            elif response.is_success and not ends:
                return url
            else:
                raise RuntimeError(f"a page where none was expected ({response.status_code}): {response.text[:300]}")
    raise RuntimeError("redirects for ever")


class Memory:
    """The SDK's TokenStorage."""

    def __init__(self):
        self.tokens = None
        self.client_info = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client_info

    async def set_client_info(self, client_info):
        self.client_info = client_info


class Human:
    """Logs in as USER and ticks every scope but those in WITHHOLD, and those too from the second time on."""

    def __init__(self, user, withhold):
        self.user = user
        self.withhold = withhold
        self.memory = Memory()
        # What each authorization asked for.
        self.asked = []
        self.page = None
        self.flow = None

    def auth(self, url):
        metadata = OAuthClientMetadata(client_name="peer", redirect_uris=[REDIRECT], token_endpoint_auth_method="none")
        self.flow = OAuthClientProvider(url, metadata, self.memory, self.redirected, self.called_back)
        return self.flow

    async def redirected(self, url):
        query = dict(parse_qsl(urlsplit(url).query))
        self.asked.append(dict(query))
        query["login_hint"] = self.user
        if len(self.asked) == 1:
            query["withhold"] = " ".join(self.withhold)
        self.page = urlsplit(url)._replace(query=urlencode(query)).geturl()

    async def called_back(self):
        end = await browse(self.page, lambda url: url.startswith(REDIRECT))
        found = {name: values[0] for name, values in parse_qs(urlsplit(end).query).items()}
        if "code" not in found:
            raise RuntimeError(f"no code: {found}")
        return AuthorizationCodeResult(**{key: found.get(key) for key in ("code", "state", "iss")})
