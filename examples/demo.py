"""dorky from end to end: two people with keys of their own, one project, a directory as the bucket.

Run as ``python3 dev.py demo``. Every line after a ``$`` is run as it is shown, on a terminal of its
own, in a temporary directory with a HOME for each person; nothing outside it is read or written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

SECRET = "STRIPE_KEY=sk_test_51Hn0tAR3alK3y"  # what the bucket must not give away
ON_A_TERMINAL = sys.stdout.isatty() and "NO_COLOR" not in os.environ
BOLD, GREEN, PLAIN = ("\033[1m", "\033[32m", "\033[0m") if ON_A_TERMINAL else ("", "", "")
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NEXT = """\
Try this next, in a project of your own:
  dorky init file:///path/to/a/directory     or s3://BUCKET/PREFIX, or gs://BUCKET/PREFIX
  dorky stage .env && dorky commit -m "first" && dorky push
  dorky --help                               every command, with examples
  docs/tutorial.md                           the same story, slowly; then docs/guides/"""


class Terminal:
    """One person at work: a HOME, a current directory, and what they type there."""

    def __init__(self, name: str, desk: Path) -> None:
        self.name = name.lower()
        self.home = self.cwd = desk / self.name
        self.home.mkdir()
        (self.home / ".gitconfig").write_text(
            f"[user]\nname = {name}\nemail = {self.name}@example.org\n"
            "[init]\ndefaultBranch = main\n"
        )
        self.environment = {
            "HOME": str(self.home),
            # The dorky of this very Python; git and the rest from where they are.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C.UTF-8",
            **({"TERM": os.environ.get("TERM", "xterm")} if ON_A_TERMINAL else {"NO_COLOR": "1"}),
        }

    def types(self, line: str, *, exit_code: int = 0) -> str:
        """Show a command line and what it says; another exit code than expected ends the demo."""
        print(f"{GREEN}{self.name}${PLAIN} {line}", flush=True)
        if line.startswith("cd "):
            self.cwd /= line.removeprefix("cd ")
            return ""
        said, code = on_a_terminal(line, self.cwd, self.environment)
        check(code == exit_code, f"exit {code}: {line}")
        return said


def on_a_terminal(line: str, cwd: Path, environment: dict[str, str]) -> tuple[str, int]:
    """Run a command line, print what it says as it comes, and return that and the exit code.

    On a terminal a program's two streams keep their order, and its colours.
    """
    ours, its = pty.openpty()
    size = shutil.get_terminal_size((100, 40))
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", size.lines, size.columns, 0, 0))
    process = subprocess.Popen(
        line, shell=True, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=its, stderr=its
    )
    os.close(its)
    said = b""
    with contextlib.suppress(OSError):  # Linux: the other end is closed
        while block := os.read(ours, 4096):
            said += block
            sys.stdout.buffer.write(block.replace(b"\r\n", b"\n"))
            sys.stdout.buffer.flush()
    os.close(ours)
    text = said.decode(errors="replace").replace("\r\n", "\n")
    return CODES.sub("", text), process.wait(timeout=60)


def main() -> None:
    """Tell the story, and check that it is true."""
    with tempfile.TemporaryDirectory(prefix="dorky-demo-") as path:
        story(Path(path))
    print(f"\ndemo: ok\n\n{NEXT}")


def story(desk: Path) -> None:
    """Ana starts a project, lets Ben in, they work, disagree and take back, and he leaves."""
    ana, ben = Terminal("Ana", desk), Terminal("Ben", desk)
    start(ana, desk)
    join(ana, ben)
    work(ana, ben)
    meet(ana, ben)
    take_back(ana)
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

    heading("The bucket learns no name and no value: everything in it is encrypted.")
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


def meet(ana: Terminal, ben: Terminal) -> None:
    """Ana and Ben change the file at the same time: other keys, then the same one."""
    heading("Both change .env at once. Different keys merge by themselves.")
    ana.types("echo https://shop.example | dorky set .env URL")
    ana.types('dorky commit --quiet -m "The URL" && dorky push')
    ben.types("echo 8080 | dorky set .env PORT")
    ben.types('dorky commit --quiet -m "The port"')
    ben.types("dorky push", exit_code=5)
    ben.types("dorky sync")
    both = {"URL=https://shop.example", "PORT=8080"}
    check(both <= set((ben.cwd / ".env").read_text().split()), "both keys are there")

    heading("The same key does not: nothing is lost, and dorky asks.")
    ana.types("dorky pull")
    ana.types("echo 9000 | dorky set .env PORT")
    ana.types('dorky commit --quiet -m "Port 9000" && dorky push')
    ben.types("echo 7000 | dorky set .env PORT")
    ben.types('dorky commit --quiet -m "Port 7000"')
    ben.types("dorky sync", exit_code=5)
    ben.types("dorky status")
    ben.types("dorky resolve .env --theirs")
    ben.types('dorky commit --quiet -m "Ana\'s port it is" && dorky push')
    check("PORT=9000" in (ben.cwd / ".env").read_text(), "Ana's value won")


def take_back(ana: Terminal) -> None:
    """Ana takes back a mistake."""
    heading("Ana commits by mistake, and takes it back.")
    ana.types("dorky pull")
    ana.types("rm data/model.bin")
    ana.types('dorky commit -a -m "Oops"')
    ana.types("dorky undo")
    ana.types("dorky restore data/model.bin")
    check((ana.cwd / "data" / "model.bin").stat().st_size == 3 << 20, "the model is back")


def leave(ana: Terminal, ben: Terminal) -> None:
    """Ana takes Ben's access away."""
    heading("Ben leaves: new keys, and a list of what he has read, to be changed.")
    left = ana.types("dorky team remove ben")
    check(".env: STRIPE_KEY, DEBUG, PORT, URL" in left, "the list names the secrets")
    ana.types("git commit --quiet --all -m 'Ben has left'")
    ana.types("echo a-new-one | dorky set .env STRIPE_KEY")
    ana.types('dorky commit --quiet -m "A new key" && dorky push')
    ben.types("dorky pull || echo 'Ben gets nothing new'")
    check(SECRET in (ben.cwd / ".env").read_text(), "Ben has what he had, and no more")


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
