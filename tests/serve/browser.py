"""The system's Chromium, without a window; where there is none its tests skip."""

import contextlib
import json
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def browsing(address, **options):
    """A page of a fresh browser, on which every error of a script fails the test."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        # Playwright itself waits by evaluating strings, which the pages forbid
        options = {"viewport": {"width": 1180, "height": 760}, "bypass_csp": True} | options
        context = browser.new_context(**options)
        context.set_default_timeout(60_000)
        page = context.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        elsewhere = []
        page.on("request", lambda request: elsewhere.append(request.url))
        page.goto(address)
        yield page
        browser.close()
        assert not errors, errors
        assert all(
            url.startswith((address.rstrip("/"), "data:"))
            or "/".join(url.split("/")[:3]) == "/".join(address.split("/")[:3])
            for url in elsewhere
        )


def settled(page):
    """Waits until no answer is being written."""
    page.wait_for_function("document.getElementById('stop').hidden")


def reloaded(page):
    """Loads the chat anew, and waits until it knows its models and whether labels are kept.

    What that answer changes is drawn over what was there: who clicks before it is too early.
    """
    page.reload()
    page.wait_for_function("entries.size")


def spoken(text, reason):
    """An answer as a server streams it."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    body = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n"
    return {"content_type": "text/event-stream", "body": body}
