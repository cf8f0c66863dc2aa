"""Trains a network from a named initializer, or compares several starts.

    python launch.py --init=nspl --model=resnet32
    python launch.py --init=nspl,he_normal,he_uniform --model=resnet32 --seeds=10

`python launch.py --help` lists the flags; `initjax train` is the same command.
"""

if __name__ == "__main__":
    from initjax.support import command

    command.start("train")  # answers --help and Ctrl-C while JAX is imported, which takes a second

from initjax.comparison import launcher

if __name__ == "__main__":
    launcher.run()
