"""How fast a run is: its frames and training steps, beside other ways to compute the same."""
