"""What the attacks share with the unit tests lies beside those."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "unit"))
