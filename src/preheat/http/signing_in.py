"""The page on which people show the token."""

from __future__ import annotations

from html import escape

STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;"
    "padding:0 1rem}input,button{font:inherit;padding:.4rem .6rem}"
)


def sign_in_page(said: str = "") -> str:
    """A form that asks for the token; it goes into the body of the request, never into an address."""
    told = f"<p role='alert'>{escape(said)}</p>" if said else ""
    return _page(
        "preheat: sign in",
        f"<h1>preheat</h1>{told}<form method='post' action='session'><label for='token'>Token</label> "
        "<input id='token' name='token' type='password' autocomplete='current-password' required> "
        "<button>Sign in</button></form>",
    )


def _page(title: str, body: str) -> str:
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )
