"""Prints every initializer: python -m initjax.names"""

import shutil
import sys

from initjax import catalog, registry

if __name__ == "__main__":
    print(catalog.table(min(shutil.get_terminal_size().columns, 100)))
else:
    # Imported, a submodule would take the place of the function initjax.names.
    sys.modules[__name__] = registry.names
