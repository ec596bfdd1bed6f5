"""Networks: small ones, torchvision's by name, any by import path. A model maps images to logits.

Images are `[B, 3, H, W]` float32 in [-.5, .5], logits `[B, n_classes]`. May import: taps, runtime,
errors.
"""

from online_debias.models.imported import Imported as Imported
from online_debias.models.small import SimpleConvNet as SimpleConvNet
from online_debias.models.small import SmallConvNet as SmallConvNet
from online_debias.models.torchvision import Torchvision as Torchvision
