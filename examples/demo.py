"""dorky from end to end: two people with keys of their own, one project, a directory as the bucket.

Run as ``python3 dev.py demo``. Every line after a ``$`` is run as it is shown, in a temporary
directory with a HOME for each person; nothing outside it is read or written.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SECRET = "STRIPE_KEY=sk_test_51Hn0tAR3alK3y"  # what the bucket must not give away
BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


class Terminal:
    """One person at work: a HOME, a current directory, and what they type there."""

    def __init__(self, name: str, desk: Path) -> None:
        self.home = self.cwd = desk / name.lower()
        self.home.mkdir()
        (self.home / ".gitconfig").write_text(
            f"[user]\nname = {name}\nemail = {name.lower()}@example.org\n"
            "[init]\ndefaultBranch = main\n"
        )
        self.environment = {
            "HOME": str(self.home),
            # The dorky of this very Python; git and the rest from where they are.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C.UTF-8",
        }

    def types(self, line: str) -> str:
        """Show a command line and what it says; a failure ends the demo."""
        print(f"$ {line}", flush=True)
        if line.startswith("cd "):
            self.cwd /= line.removeprefix("cd ")
            return ""
        done = subprocess.run(
            line,
            shell=True,
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, end="", flush=True)
        check(done.returncode == 0, f"exit {done.returncode}: {line}")
        return done.stdout


def main() -> None:
    """Tell the story, and check that it is true."""
    with tempfile.TemporaryDirectory(prefix="dorky-demo-") as path:
        story(Path(path))
    print("\ndemo: ok")


def story(desk: Path) -> None:
    """Ana starts a project, lets Ben in, he changes it, Ana gets the change, and he leaves."""
    ana, ben = Terminal("Ana", desk), Terminal("Ben", desk)
    start(ana, desk)
    join(ana, ben)
    work(ana, ben)
    leave(ana, ben)


def start(ana: Terminal, desk: Path) -> None:
    """Ana starts a project."""
    heading("Ana starts a project. The bucket is a directory here; s3://… and gs://… work alike.")
    ana.types("git init --quiet shop")
    ana.types("cd shop")
    ana.types(f"dorky init {desk}/bucket")

    heading("She has secrets and data that git must not hold.")
    make_files(ana.cwd)
    ana.types("ls -lA .env data")
    ana.types("dorky stage .env data/")
    ana.types("dorky status")
    ana.types('dorky commit -m "Keys for staging, first data"')
    ana.types("dorky push")

    heading("git gets .dorkyrc, which says where the files are, and none of the files.")
    ana.types("git add --all")
    ana.types('git commit --quiet -m "Start the shop"')
    in_git = ana.types("git ls-files").split()
    check(".dorkyrc" in in_git, ".dorkyrc is in git")
    check(not any(name.startswith((".env", "data")) for name in in_git), "git holds no secret")

    heading("The bucket learns no name and no value: everything in it is sealed.")
    ana.types(f"find {desk}/bucket -type f -size +0 | wc -l")
    ana.types(f"grep -r -l -e sk_test -e orders.csv {desk}/bucket || echo 'nothing found'")
    check_sealed(desk / "bucket")


def join(ana: Terminal, ben: Terminal) -> None:
    """Ana lets Ben in."""
    heading("Ben has a git clone, but no key: he asks to be let in.")
    ben.types("git clone --quiet ../ana/shop")
    ben.types("cd shop")
    asked = ben.types("dorky team join")
    (fingerprint,) = re.findall(r"SHA256:\S+", asked)

    heading("He tells Ana the fingerprint; she compares, and lets him in.")
    check(fingerprint in ana.types("dorky team list"), "Ana sees the fingerprint that Ben tells")
    ana.types(f"dorky team add ben --fingerprint {fingerprint}")

    heading("He can use the secrets without a file for a program to find; and pull the files.")
    said = ben.types("dorky run --mask -- sh -c 'echo DEBUG=$DEBUG, paying with $STRIPE_KEY'")
    check("paying with ****" in said and SECRET[-8:] not in said, "the value is used, and masked")
    check(not (ben.cwd / ".env").exists(), "no file was written")
    ben.types("dorky pull")
    check_same(ana.cwd, ben.cwd)


def work(ana: Terminal, ben: Terminal) -> None:
    """Ben changes something, Ana gets it."""
    heading("Ben turns debugging off and adds a month of orders.")
    ben.types("echo 0 | dorky set .env DEBUG")
    ben.types("echo '2026-04-01,1009,12.50' >> data/orders.csv")
    ben.types("dorky status")
    ben.types("dorky stage .env data/")
    ben.types('dorky commit -m "Debugging off, orders of April"')
    ben.types("dorky push")

    heading("Ana pulls, and has it.")
    ana.types("dorky pull")
    ana.types("grep DEBUG .env")
    ana.types("dorky status")
    log = ana.types("dorky log")
    check("Debugging off" in log and "Keys for staging" in log, "the log tells both commits")
    check_same(ana.cwd, ben.cwd)
    check((ana.cwd / ".env").read_text() == f"{SECRET}\nDEBUG=0\n", "Ben's edit reached Ana")


def leave(ana: Terminal, ben: Terminal) -> None:
    """Ana takes Ben's access away."""
    heading("Ben leaves: new keys, and a list of what he has read, to be changed.")
    left = ana.types("dorky team remove ben")
    check(".env: STRIPE_KEY, DEBUG" in left, "the list names the secrets")
    ana.types("git commit --quiet --all -m 'Ben has left'")
    ana.types("echo a-new-one | dorky set .env STRIPE_KEY")
    ana.types('dorky commit --quiet -m "A new key" && dorky push')
    ben.types("dorky pull || echo 'Ben gets nothing new'")
    check((ben.cwd / ".env").read_text() == f"{SECRET}\nDEBUG=0\n", "Ben has what he had")


def make_files(project: Path) -> None:
    """A `.env`, three tables and a binary of 3 MiB: the same bytes in every run."""
    chance = random.Random(2026)
    (project / ".env").write_text(f"{SECRET}\nDEBUG=1\n")
    data = project / "data"
    data.mkdir()
    for name in ("customers", "orders", "prices"):
        rows = (f"2026-03-{day:02},{1000 + day},{chance.random():.2f}\n" for day in range(1, 32))
        (data / f"{name}.csv").write_text("day,number,amount\n" + "".join(rows))
    (data / "model.bin").write_bytes(chance.randbytes(3 << 20))


def check_same(one: Path, other: Path) -> None:
    """Both projects hold the same files, byte by byte."""
    mine, theirs = contents(one), contents(other)
    check(len(mine) == 5, "there are five files")
    check(mine == theirs, f"{one} and {other} hold the same bytes")


def contents(project: Path) -> dict[str, bytes]:
    """What dorky keeps of a project: path → bytes."""
    files = [project / ".env", *(project / "data").iterdir()]
    return {file.relative_to(project).as_posix(): file.read_bytes() for file in files}


def check_sealed(bucket: Path) -> None:
    """No value and no name can be read in the bucket."""
    kept = b"".join(file.read_bytes() for file in bucket.rglob("*") if file.is_file())
    check(len(kept) > 3 << 20, "the bucket holds the data")
    for clear in (SECRET, ".env", "orders.csv", "Keys for staging"):
        check(clear.encode() not in kept, f"{clear!r} can't be read in the bucket")


def check(true: object, what: str) -> None:
    """End the demo when something does not hold."""
    if not true:
        sys.exit(f"demo: FAILED: {what}")


def heading(text: str) -> None:
    """Say what comes next."""
    print(f"\n{BOLD}# {text}{PLAIN}", flush=True)


if __name__ == "__main__":
    main()
