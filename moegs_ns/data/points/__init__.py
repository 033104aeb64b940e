"""Initial points: from files, triangulated, or at random."""
