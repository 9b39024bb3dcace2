from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile(
    "exporter", deadline=None, max_examples=50
)  # how long an example takes says nothing on a busy machine
hypothesis.settings.load_profile("exporter")
