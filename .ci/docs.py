#!/usr/bin/env python3
"""Runs the shell blocks of Markdown pages unchanged, from the root of the repository.

    .ci/docs.py README.md docs/*.md

Blocks run in the order of the page, each with `bash -euo pipefail`. These rules connect a block with the page:

- A block after a line that ends in "`NAME`:" is the file NAME, which is written before the next shell block runs.
- A ```text block directly after a shell block is its output: the block must print each of these lines, with any numbers.
- `<!-- ci: server, ready when "TEXT" -->` before a shell block: once the block has printed TEXT it keeps running in the
  background. It gets SIGTERM at the end of the page, and must exit with 0.
- `<!-- ci: with the test servers -->`: the block gets the variables of CI's servers (`KAFKA_*`).
- `<!-- ci: skip: REASON -->`: the block is not run. All pages together may have ten of these.

At the end of a page, a Kafka that it started is stopped and the files that it wrote are removed. Any other change to the
work tree is an error.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time

MOST_SKIPPED = 10
# Longest time that a block may run, or that a server may take to become ready, in seconds.
PATIENCE = 3000


class Block:
    def __init__(self, page, line, language, text, directives, name, follows):
        self.place = f"{page}:{line}"
        self.language = language
        self.text = text
        self.directives = directives
        self.name = name
        self.follows = follows

    def directive(self, start):
        for directive in self.directives:
            if directive.startswith(start):
                return directive[len(start) :]
        return None


def blocks(page):
    """Returns the fenced blocks of a page."""
    found = []
    directives, name, since = [], None, None
    lines = iter(enumerate(open(page, encoding="utf-8"), start=1))
    for number, line in lines:
        fence = re.match(r"( *)```(\w*)", line)
        if fence:
            indent = len(fence[1])
            text = ""
            for _, inner in lines:
                if inner.strip() == "```":
                    break
                text += inner[indent:]
            else:
                sys.exit(f"{page}:{number}: the block has no end")
            follows = since is not None
            found.append(Block(page, number, fence[2], text, directives, name, follows))
            directives, name, since = [], None, number
        elif directive := re.match(r"\s*<!-- ci: (.*) -->$", line):
            directives.append(directive[1])
        elif line.strip():
            ended = re.search(r"`([\w./-]+)`:$", line.strip())
            name = ended[1] if ended else None
            directives, since = [], None
    return found


def environment(with_servers):
    kept = dict(os.environ)
    if not with_servers:
        for variable in list(kept):
            if variable.startswith("KAFKA_"):
                del kept[variable]
    return kept


class Process:
    """A running shell block. Its output is printed as it comes, and kept."""

    def __init__(self, block):
        self.block = block
        self.output = ""
        self.process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", block.text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment(block.directive("with the test servers") is not None),
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.output += line
            print(line, end="", flush=True)

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def wait(self):
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            raise Failed(f"{self.block.place}: still running after {PATIENCE} s") from None
        # The pipe stays open if the block has started a server, so the wait has a limit.
        self.reader.join(2)
        if code != 0:
            raise Failed(f"{self.block.place}: exit code {code}")

    def await_text(self, text):
        until = time.monotonic() + PATIENCE
        while text not in self.output:
            if self.process.poll() is not None:
                raise Failed(f"{self.block.place}: ended before it was ready ({text!r})")
            if time.monotonic() > until:
                raise Failed(f"{self.block.place}: not ready ({text!r}) after {PATIENCE} s")
            time.sleep(0.1)


class Failed(Exception):
    pass


def loosened(line):
    """Returns a pattern that matches the line with any other numbers."""
    return re.sub(r"\d+(?:\\\.\d+)?", r"[0-9.]+", re.escape(" ".join(line.split())))


def check_output(block, output):
    squeezed = "\n".join(" ".join(line.split()) for line in output.splitlines())
    for line in block.text.splitlines():
        if line.strip() and not re.search(loosened(line), squeezed):
            raise Failed(f"{block.place}: not in the output: {line}")


def status():
    listed = subprocess.run(
        ["git", "status", "--porcelain"], capture_output=True, text=True, check=True
    )
    return set(listed.stdout.splitlines())


def ignored_files():
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--directory"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {line for line in listed.stdout.splitlines() if not line.endswith("/")}


def run_page(page, skipped):
    before, ignored_before = status(), ignored_files()
    ran, written, servers, last = 0, [], [], None
    try:
        for block in blocks(page):
            if block.language == "sh":
                last = None
                reason = block.directive("skip: ")
                if reason:
                    skipped.append((block.place, reason))
                    continue
                print(f"\n-- {block.place}\n{block.text}--", flush=True)
                process = Process(block)
                ready = block.directive("server, ready when ")
                if ready:
                    servers.append(process)
                    process.await_text(ready.strip('"'))
                else:
                    process.wait()
                    last = process
                ran += 1
            elif block.name:
                if block.name not in written:
                    if os.path.exists(block.name):
                        raise Failed(f"{block.place}: {block.name} exists already")
                    written.append(block.name)
                with open(block.name, "w", encoding="utf-8") as file:
                    file.write(block.text)
            elif block.language == "text" and block.follows and last:
                check_output(block, last.output)
                last = None
            else:
                last = None
    finally:
        for server in reversed(servers):
            server.signal(signal.SIGTERM)
        for server in reversed(servers):
            server.wait()
        if "kafka.sh start" in open(page, encoding="utf-8").read():
            subprocess.run(["scripts/kafka.sh", "stop"], check=True)
        for name in set(written) | (ignored_files() - ignored_before):
            os.remove(name)
    left = status() - before
    if left:
        raise Failed(f"{page}: left behind: {', '.join(sorted(left))}")
    return ran


def main():
    ran, skipped = 0, []
    try:
        for page in sys.argv[1:]:
            ran += run_page(page, skipped)
    except Failed as failed:
        sys.exit(f"\ndocs: {failed}")
    print(f"\n{ran} shell blocks ran, {len(skipped)} were skipped:")
    for place, reason in skipped:
        print(f"  {place}: {reason}")
    if len(skipped) > MOST_SKIPPED:
        sys.exit(f"docs: at most {MOST_SKIPPED} blocks may be skipped")


main()
