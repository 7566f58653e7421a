"""Programs: one training step as data, and the Timeline an engine makes of it."""
