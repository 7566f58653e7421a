"""One step: from a scenario to everything a user sees of it."""
