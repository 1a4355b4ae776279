"""A process that runs a project when told to: folder, Kafka, selection, first and last tile.

It imports everything first, says `ready`, and waits for a line: so a test decides when it begins.
"""

import sys
from pathlib import Path

from tests.running import Project


def main() -> int:
    """Run once; the exit code tells whether it succeeded."""
    folder, servers, selection, first, last = sys.argv[1:]
    project = Project(Path(folder), servers)
    project.definitions()
    print("ready", flush=True)  # noqa: T201  # what the test waits for
    sys.stdin.readline()
    outcome = project.run(selection, (first, last))
    print(f"outcome: {outcome}", flush=True)  # noqa: T201
    return 0 if outcome.success and not outcome.failed_checks else 1


if __name__ == "__main__":
    sys.exit(main())
