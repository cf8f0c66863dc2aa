"""Prints every initializer, as `python -m initjax` does: python -m initjax.names"""

import sys

if __name__ == "__main__":
    from initjax.__main__ import names
    from initjax.support import command

    command.run(names)
else:
    from initjax import initializers

    # Imported, a submodule would take the place of the function initjax.names.
    sys.modules[__name__] = initializers.names
