"""Python imports this by itself where the folder is on its path: so programs that a run starts are marked."""

from tests.crash.sites import instrument

instrument()
