"""Runs launch.py many times, importing it once: a process that forks for each line of flags.

Each line of the input is [flags, environment] in JSON; each of the output {"returncode", "stdout",
"stderr"}. What a process imports costs three seconds, and nothing of it is what these tests ask.
"""

import json
import os
import pathlib
import runpy
import sys
import tempfile
import traceback

LAUNCH = pathlib.Path(__file__).resolve().parents[1] / "launch.py"


def run(flags, environment):
    """The answer to one line."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.environ.update(environment)
            sys.argv = [str(LAUNCH), *flags]
            code = 1
            try:
                runpy.run_path(str(LAUNCH), run_name="__main__")
                code = 0
            except SystemExit as stop:  # as Python ends with it
                code = stop.code or 0
                if not isinstance(code, int):
                    print(code, file=sys.stderr)
                    code = 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        returncode = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = {}
        for name, file in (("stdout", out), ("stderr", err)):
            file.seek(0)
            texts[name] = file.read().decode()
    return {"returncode": returncode, **texts}


if __name__ == "__main__":
    runpy.run_path(str(LAUNCH), run_name="launch")  # imports all, and starts no device
    from initjax import training  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)
