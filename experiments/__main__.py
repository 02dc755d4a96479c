"""`python -m experiments`, and the command `smoe`: Ctrl-C and SIGTERM end it in one line, imports included."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = "smoe: interrupted; what was finished is kept\n"
heard = False


def _hear(number: int, frame: FrameType | None) -> None:
    global heard
    heard = True
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, _hear)
    signal.signal(signal.SIGTERM, _hear)
    try:
        from experiments import cli

        cli.main()
    except SystemExit:
        raise
    except BaseException:  # an import that is interrupted raises many kinds
        if not heard:
            raise
        os.write(2, INTERRUPTED.encode())
        sys.exit(1)


if __name__ == "__main__":
    main()
