"""Passes on what a process writes to stderr, but for what JAX's C++ parts say of its peers.

    python peer_errors.py NOT_COME GONE

When a process of a job is gone, JAX's coordination service ends the others from C++: after a dozen
lines and a stack trace, on which Python has no hold. `cluster` starts this file beside a process
and gives it the other end of its stderr. In the place of these lines stands one of the two texts,
once: NOT_COME where the processes never were together, else GONE.
"""

import re
import signal
import sys

# How a line of the coordination service's log begins, and those that follow such a line.
CHATTER = re.compile(
    rb"\[Gloo\] Rank |[IWE]\d{4} .*(coordination|preemption_sync|distributed_runtime|add_port)"
)
FOLLOWING = re.compile(
    rb"The (following )?tasks? (have|are|has|is) |Additional GRPC error|:UNKNOWN:Error received"
    rb"|RPC: /xla\.|\d+$"
)
FATAL = re.compile(rb"F\d{4} .*JAX distributed service detected fatal errors")


def main(not_come: str, gone: str) -> None:
    """Reads stdin to its end, which comes with that of the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for that process, whose last words matter
    out = sys.stderr.buffer
    told = dying = dropped = False
    text = b""
    for line in sys.stdin.buffer:
        if FATAL.match(line):
            dying = True
        if dying:
            text += line
            if b"Check failure stack trace" in line:
                break
            continue
        dropped = bool(CHATTER.match(line) or (dropped and FOLLOWING.match(line)))
        if not dropped:
            told = told or line.strip() == gone.splitlines()[0].encode()
            out.write(line)
            out.flush()
    if dying and not told:
        out.write((not_come if b"/RegisterTask" in text else gone).encode() + b"\n")
        out.flush()
    for _ in sys.stdin.buffer:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
