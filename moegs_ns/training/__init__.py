"""What all recipes share: densification, optimisers, schedules, samplers, losses."""
