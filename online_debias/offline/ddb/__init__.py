"""DDB: a diffusion model makes bias-aligned images, on which a biased model is trained.

May import: offline, callbacks and all below.
"""

from online_debias.offline.ddb.ddb import DDB as DDB
from online_debias.offline.ddb.diffusion import Diffusion as Diffusion
