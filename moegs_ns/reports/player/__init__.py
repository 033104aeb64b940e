"""Scripts, shaders and styles of the page that plays a clip; no module is here."""
