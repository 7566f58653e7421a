"""Commands of the command line; each file has one function of the command's name."""
