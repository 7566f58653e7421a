"""The command line: one file per command; heavy modules are imported only when a command runs."""
