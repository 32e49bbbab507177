"""The live server: people compare answers and vote, over HTTP or on its page.

Needs `pip install 'fastslow[serve]'`; loads without torch.
"""

from fastslow.serve.app import make_app
from fastslow.serve.live import Live, Settings

__all__ = ["Live", "Settings", "make_app"]
