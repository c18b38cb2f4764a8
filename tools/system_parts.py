"""The two programs that pip cannot bring: Chromium for the browser tests, bubblewrap for grading.

python3 tools/system_parts.py            say what is here, and the one command for the rest
python3 tools/system_parts.py --missing  print the names of the packages to install, nothing else
"""

import os
import shutil
import subprocess
import sys

CHROMIUM_COMMANDS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)


def find_chromium():
    """The path of a Chromium or Chrome, or None. ICL_LESSONS_CHROMIUM names one elsewhere."""
    named = os.environ.get("ICL_LESSONS_CHROMIUM")
    if named:
        return named if os.access(named, os.X_OK) else None
    for command in CHROMIUM_COMMANDS:
        found = shutil.which(command)
        if found:
            return found
    return None


def find_bubblewrap():
    """The path of a bubblewrap that can make a sandbox on this machine, or None."""
    found = shutil.which("bwrap")
    if not found:
        return None
    trial = [found, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "true"]
    try:
        done = subprocess.run(trial, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=30)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found if done.returncode == 0 else None


def distribution(release="/etc/os-release"):
    """The distribution's short name, such as `debian` or `ubuntu`; "" where it does not say."""
    try:
        with open(release) as file:
            for line in file:
                if line.startswith("ID="):
                    return line[3:].strip().strip('"')
    except OSError:
        pass
    return ""


def package_of(part, system=None):
    """The package that brings a part on this distribution."""
    system = distribution() if system is None else system
    if part == "chromium" and system == "ubuntu":
        return "chromium-browser"
    return part


FINDERS = {"chromium": find_chromium, "bubblewrap": find_bubblewrap}


def missing(finders=None):
    """The parts that are not here, in a fixed order."""
    finders = FINDERS if finders is None else finders
    return [part for part, find in finders.items() if not find()]


def command_for(parts, system=None, root=None):
    """The one command that installs these parts."""
    root = (os.geteuid() == 0) if root is None else root
    names = " ".join(package_of(part, system) for part in parts)
    return f"{'' if root else 'sudo '}apt-get install -y {names}"


def main():
    absent = missing()
    if "--missing" in sys.argv[1:]:
        print(" ".join(package_of(part) for part in absent))
        return 0
    for part in FINDERS:
        print(f"{part}: {'not found, or it does not work' if part in absent else 'found'}")
    if absent:
        print("install what is missing: " + command_for(absent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
