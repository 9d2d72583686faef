#!/usr/bin/env python3
"""Runs the Python pipelines in docs/from-streamz.md with the real Streamz, and compares their output with the page.

    .ci/from_streamz.py docs/from-streamz.md

The test `pipelines_ported_from_streamz_give_the_output_shown` runs the same pipelines as files.
"""

import json
import re
import sys

from streamz import Stream

page = open(sys.argv[1], encoding="utf-8").read()
pipelines = re.findall(r"```python\n(.*?)```\n\n```toml\n.*?```\n\n```text\n(.*?)```", page, re.DOTALL)
for program, lines in pipelines:
    shown = [json.loads(line[2:]) for line in lines.splitlines() if line.startswith("> ")]
    source, seen = Stream(), []
    exec(program, {"source": source, "show": lambda value: seen.append(json.loads(json.dumps(value)))})
    for line in lines.splitlines():
        if line.startswith("< "):
            source.emit(json.loads(line[2:]))
    if seen != shown:
        sys.exit(f"Streamz gives {seen}, and the page shows {shown}:\n{program}")
if len(pipelines) < 5:
    sys.exit(f"only {len(pipelines)} pipelines were found")
print(f"{len(pipelines)} pipelines agree with Streamz")
