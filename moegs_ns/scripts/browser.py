"""Pages that open where there is somebody to look at them."""

import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path


def has_browser(environment: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a window can open here: not without a display, over SSH, or in continuous
    integration."""
    if any(environment.get(name) for name in ("CI", "SSH_CONNECTION", "SSH_TTY")):
        return False
    if platform in ("darwin", "win32"):
        return True
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def open_page(path: Path) -> bool:
    """Open a page in the user's browser; whether one was found."""
    if not has_browser(os.environ):
        return False
    try:
        return webbrowser.open(path.resolve().as_uri())
    except webbrowser.Error:
        return False
