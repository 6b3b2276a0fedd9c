"""Draw `docs/session.svg`: a picture of a real session, for the README.

Run as ``.venv/bin/python docs/session.py``. The commands run in a temporary directory, on a
terminal of their own, so that the picture shows what people see: colours included.
"""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).resolve().parent / "session.svg"
WIDTH = 92
SESSION = (
    "cd shop",
    "dorky init ../vault --recovery none",
    "dorky stage .env config/prod.toml",
    'dorky commit -m "keys for staging"',
    "dorky push",
    "cd ../colleague",
    "dorky pull",
    "dorky run -- ./deploy",
)
# rich's own template loads a font from another host; a README must not.
TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" \
aria-label="A terminal session with dorky">
<style>.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", \
monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" \
height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def main() -> None:
    """Run the session and draw it."""
    screen = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: SIM115
    with tempfile.TemporaryDirectory(prefix="dorky-session-") as desk:
        home = prepare(Path(desk))
        where = home
        for line in SESSION:
            screen.print(Text.assemble(("$ ", "bold green"), line))
            if line.startswith("cd "):
                where = (where / line.removeprefix("cd ")).resolve()
                continue
            if line == "dorky pull":
                (where / ".dorkyrc").write_text((home / "shop" / ".dorkyrc").read_text())
            said = on_a_terminal(line, where, home).replace(str(home), "~")
            screen.print(Text.from_ansi(said.rstrip("\n")))
    picture = screen.export_svg(title="dorky", code_format=TEMPLATE, unique_id="session")
    PICTURE.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n")
    print(f"wrote {PICTURE.name}")


def prepare(desk: Path) -> Path:
    """Make a home with a project in it."""
    home = desk / "ana"
    for name in ("shop/config", "colleague"):
        (home / name).mkdir(parents=True)
    deploy = home / "colleague" / "deploy"
    deploy.write_text('#!/bin/sh\necho "deploying with a key of ${#PAYMENT_KEY} characters"\n')
    deploy.chmod(0o755)
    (home / "shop" / ".env").write_text("PAYMENT_KEY=not-a-real-key\n")
    (home / "shop" / "config" / "prod.toml").write_text('url = "https://shop.example"\n')
    return home


def on_a_terminal(line: str, where: Path, home: Path) -> str:
    """Run a command line on a terminal of its own; return what it prints there."""
    master, slave = pty.openpty()
    environment = {
        "HOME": str(home),
        "USER": "ana",
        "LOGNAME": "ana",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "TERM": "xterm-256color",
        "COLUMNS": str(WIDTH),
        "LC_ALL": "C.UTF-8",
    }
    process = subprocess.Popen(
        ["sh", "-c", line], cwd=where, env=environment, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    said = b""
    with contextlib.suppress(OSError):  # Linux answers the end of a terminal with an error
        while block := os.read(master, 1 << 16):
            said += block
    os.close(master)
    if process.wait():
        sys.exit(f"{line}: exit {process.returncode}\n{said.decode()}")
    return said.decode().replace("\r\n", "\n")


if __name__ == "__main__":
    main()
