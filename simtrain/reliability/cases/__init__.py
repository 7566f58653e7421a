"""Questions about failures as files: one kind to a module, each with a closed form or a Job for the engines, or both."""
