"""What every test may rely on, whatever started pytest."""

import signal

# A job started in the background by a shell inherits an ignored Ctrl-C, and so would every process a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
