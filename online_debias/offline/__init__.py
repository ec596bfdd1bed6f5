"""Methods that train more than once: the baselines that one online run is compared with.

May import: callbacks and all below.
"""

from online_debias.offline.ddb.ddb import DDB
from online_debias.offline.ddb.diffusion import Diffusion
from online_debias.offline.dfr import DFR
from online_debias.offline.jtt import JTT
from online_debias.offline.two_step import TwoStep
from online_debias.offline.u_end import UEnD
from online_debias.offline.voronoi import ConflictingInformation, Voronoi

__all__ = ["DDB", "DFR", "JTT", "ConflictingInformation", "Diffusion", "TwoStep", "UEnD", "Voronoi"]
