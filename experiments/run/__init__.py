"""The main job: one experiment, from text to a bill."""
