"""Run untrusted notebooks with their kernel inside a bubblewrap sandbox.

``SandboxExecute`` takes the place of nbgrader's ``Execute`` preprocessor. The kernel of a
submitted notebook then has no network, sees the system and the Python environment read-only, and
has a private ``/tmp`` and a throw-away copy of the assignment's folder as its working folder. The
gradebook, the solutions, other submissions and the instructor's home are not in its file system at
all. The grader talks to the kernel over Unix sockets in a fresh folder.

What no sandbox cures: an answer and the tests that judge it share one process. The hidden tests
therefore compare plain numbers and look nothing up in the package, and ``audit`` reads each
submission for what could bend them.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager
from nbgrader.preprocessors import Execute

GIB = 2**30
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib64"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts"),
)
"""What of the system a kernel sees, read-only. Of ``/etc`` no more than programs need to start."""

LIMITS = {
    resource.RLIMIT_AS: 16 * GIB,  # address space: torch reserves far more than it uses
    resource.RLIMIT_FSIZE: GIB // 4,  # one file
    resource.RLIMIT_CPU: 1800,  # seconds of processor time
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 1024,
}

INSTALL = "sudo apt-get install bubblewrap"


class SandboxUnavailable(RuntimeError):
    """bubblewrap is not there, or may not make a sandbox here; the message says what to do."""


def check_available() -> None:
    """Make an empty sandbox and run ``true`` in it.

    Raises:
        SandboxUnavailable: with the command that installs bubblewrap, or what it complained about.
    """
    if shutil.which("bwrap") is None:
        raise SandboxUnavailable(
            "Submissions run inside bubblewrap, and it is not installed here. Install it with\n"
            f"    {INSTALL}\n"
            "or, if you trust every submission, grade without it: --no-sandbox."
        )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            bubblewrap(["true"], connection=folder, folder=folder, scratch=folder),
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        raise SandboxUnavailable(
            "bubblewrap is installed but may not make a sandbox here. It says: "
            f"{done.stderr.strip() or 'nothing'}\n"
            "Unprivileged user namespaces may be switched off (sysctl "
            "kernel.unprivileged_userns_clone=1, or an AppArmor profile for bwrap). If you trust "
            "every submission, grade without it: --no-sandbox."
        )


def bubblewrap(
    command: Sequence[str],
    *,
    connection: str | os.PathLike,
    folder: str | os.PathLike,
    scratch: str | os.PathLike,
    read_only: Sequence[str | os.PathLike] = (),
) -> list[str]:
    """The command line that runs ``command`` in a sandbox.

    Args:
        command: what to run.
        connection: the folder with the kernel's sockets, visible and writable inside.
        folder: the working folder as the command sees it.
        scratch: the folder that is really there; what is written to it is thrown away.
        read_only: further folders to show, at their own paths.
    """
    line = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    line += ["--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
    line += ["--size", str(GIB), "--tmpfs", "/tmp", "--tmpfs", "/run", "--dir", "/home/student"]
    for path in SYSTEM:
        if os.path.islink(path):
            line += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            line += ["--ro-bind", path, path]
    for path in dict.fromkeys([sys.base_prefix, sys.prefix, *map(str, read_only)]):
        line += ["--ro-bind", path, path]
    line += ["--bind", str(connection), str(connection)]
    line += ["--bind", str(scratch), str(folder), "--chdir", str(folder)]
    environment = {
        "HOME": "/home/student",
        "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": "/tmp/matplotlib",
        "IPYTHONDIR": "/tmp/ipython",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ICL_LESSONS_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    for name, value in environment.items():
        line += ["--setenv", name, value]
    return [*line, "--", *command]


def _limit() -> None:
    for what, number in LIMITS.items():
        resource.setrlimit(what, (number, number))


class SandboxKernelManager(AsyncKernelManager):
    """A kernel manager whose kernels live in a bubblewrap sandbox.

    ``read_only`` names further folders that a kernel may see. With an editable install that is the
    package's folder and nothing above it: the repository holds the solutions.
    """

    read_only: tuple[str, ...] = ()

    def __init__(self, **kwargs):
        # short paths: the name of a Unix socket has at most 107 bytes
        self._private = Path(tempfile.mkdtemp(prefix="icl-"))
        self._connection = self._private / "c"
        self._connection.mkdir(mode=0o700)
        super().__init__(**kwargs)
        # no network inside, so the kernel is reached through sockets in a shared folder; nbclient
        # gives no connection file, and the default socket name would be relative
        self.transport = "ipc"
        self.connection_file = str(self._connection / "k.json")
        self.ip = str(self._connection / "s")

    async def _async_start_kernel(self, **options):
        folder = Path(options.get("cwd") or os.getcwd()).resolve()
        scratch = self._private / "w"
        # the notebook on disk has the hidden tests in it, so notebooks stay outside
        shutil.copytree(folder, scratch, ignore=shutil.ignore_patterns("*.ipynb"))
        self._folder, self._scratch = folder, scratch
        options["cwd"] = str(folder)
        options["preexec_fn"] = _limit
        options["stdout"] = options["stderr"] = subprocess.DEVNULL  # what it prints as a process
        await super()._async_start_kernel(**options)

    start_kernel = _async_start_kernel

    def format_kernel_cmd(self, extra_arguments=None):
        # a signal would not reach the kernel in its own process namespace
        self.kernel_spec.interrupt_mode = "message"
        return bubblewrap(
            super().format_kernel_cmd(extra_arguments),
            connection=self._connection,
            folder=self._folder,
            scratch=self._scratch,
            read_only=self.read_only,
        )

    async def _async_cleanup_resources(self, restart=False):
        await super()._async_cleanup_resources(restart)
        if not restart:
            shutil.rmtree(self._private, ignore_errors=True)

    cleanup_resources = _async_cleanup_resources


class SandboxExecute(Execute):
    """nbgrader's ``Execute`` with a sandboxed kernel (configuration section ``SandboxExecute``).

    nbgrader passes a kernel manager of its own to the constructor, which hides the configuration
    option of that name; hence the subclass.
    """

    def __init__(self, *args, **kwargs):
        kwargs["kernel_manager_class"] = SandboxKernelManager
        super().__init__(*args, **kwargs)
