"""What a process loads before it is of use: seconds at each start, and at each `--help`."""

from __future__ import annotations

import subprocess
import sys

STEPS = (  # in this order in one process: what a step loads, all later ones have
    ("from webhook.__main__ import main; main(['--help'], standalone_mode=False)", {"sqlalchemy", "psycopg"}),
    ("import webhook.app", {"matplotlib"}),
    ("import webhook.worker", {"matplotlib", "openai", "slack_sdk"}),
)


def test_what_is_heavy_is_loaded_when_it_is_used() -> None:
    code = "import sys\n" + "\n".join(f"{statement}\nprint('loaded:', *sys.modules)" for statement, _ in STEPS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [set(line.split()) for line in done.stdout.splitlines() if line.startswith("loaded: ")]
    assert [heavy & names for (_, heavy), names in zip(STEPS, loaded, strict=True)] == [set()] * len(STEPS)
