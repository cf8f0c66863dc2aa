"""What are trained weights distributed like?  python -m initjax.fit WEIGHTS [--out=DIR]"""

from initjax.fit.draw import (
    from_fit as from_fit,
    rules_from_fit as rules_from_fit,
)
from initjax.fit.laws import (
    Laws as Laws,
)
