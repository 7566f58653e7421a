"""The cluster as a graph: GPUs, switches, NICs and links, with routes between GPUs."""
