"""For all tests."""

import signal

# A shell that starts the tests in the background has processes ignore SIGINT, which programs under test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
