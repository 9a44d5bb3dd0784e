"""
`container_engine.py COMMAND ...`: run COMMAND where a container engine answers; its exit code.

Where none answers, COMPOSE_BOOTSTRAP=1 makes one for the time of the command, as root on Debian, and says so
to the command: DOCKER_HOST and DOCKER_CONFIG; COMPOSE_WORK, the engine's work folder;
COMPOSE_REAL_TIME_US, the real-time scheduling that a container has to ask for, where it has to.
Where such an engine cannot start, that is said loudly and the exit code is 0.

It is made from nothing but Debian's packages, without any image registry: the engine from
docker.io, compose v2 from the next release's package (it needs nothing of that release), and a stand-in for
the base image by mmdebstrap.
It has its own socket, data and configuration in one work folder, changes no firewall rule and makes no bridge
of its own, and ends with the command.
Mirrors are read from apt's own configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from host_state import HostState, processes_with, remove_control_groups

from tests.compose.steps import StepError, run, step

BASE_IMAGE = "python:3.11-slim-bookworm"
RELEASE, NEXT_RELEASE = "bookworm", "trixie"
"""The base image's Debian release; the one whose package holds compose v2."""
PACKAGES = ("docker.io", "iptables", "tini", "mmdebstrap", "iproute2")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
INSTALL_TIMEOUT_S = 600.0
BASE_IMAGE_TIMEOUT_S = 600.0
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
COMMAND_STOP_TIMEOUT_S = 180.0
"""For a command that takes its containers down."""
_ANSWER_TIMEOUT_S = 20.0
_POLL_S = 0.1
_LOG_LINES = 25

RT_GROUP = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")
"""There where the kernel shares real-time scheduling out among groups, and gives a new group none."""
REAL_TIME_ENGINE_US, REAL_TIME_SHARE_US = 900_000, 400_000
"""Microseconds of each second: for all containers, and for one side-car."""


class EngineCannotStartError(Exception):
    """This machine does not let a container engine run; the message carries the engine's last words."""


@contextlib.contextmanager
def own_engine(*, keep: bool) -> Iterator[dict[str, str]]:
    """
    Install, start and finally stop an engine of our own.

    Args:
        keep: leave the work folder behind (the engine ends all the same).

    Returns:
        the environment of a command that is to use it.

    Raises:
        EngineCannotStartError: everything is installed and dockerd does not run here.
        StepError: anything else.
    """
    if os.geteuid() != 0:
        raise StepError("COMPOSE_BOOTSTRAP=1 installs packages and starts an engine; expected root")
    work = Path(tempfile.mkdtemp(prefix="thinwire-compose-"))
    print(f"compose-test: work folder {work}", flush=True)
    environment = {
        **os.environ,
        "DOCKER_HOST": f"unix://{work}/docker.sock",
        "DOCKER_CONFIG": str(work / "config"),
        "DOCKER_BUILDKIT": "1",
        "TMPDIR": str(work),
        "COMPOSE_WORK": str(work),
    }
    environment.pop("DOCKER_CONTEXT", None)
    if RT_GROUP.exists():
        environment["COMPOSE_REAL_TIME_US"] = str(REAL_TIME_SHARE_US)
    daemon: subprocess.Popen[bytes] | None = None
    before: HostState | None = None
    try:
        with step("install the engine's packages"):
            _install(PACKAGES)
        with step(f"compose v2 from Debian {NEXT_RELEASE}"):
            _install_compose(work, environment)
        with step("start the engine"):
            before = HostState.now()
            daemon = _start(work)
            _await_answer(daemon, work, environment)
        with step(f"stand-in for {BASE_IMAGE}"):
            _make_base_image(environment)
        yield environment
    finally:
        with step("stop the engine and look for anything left behind"):
            if daemon is not None:
                end(daemon, timeout_s=STOP_TIMEOUT_S)  # its containerd ends with it
            _unmount_below(work)
            if not keep:
                shutil.rmtree(work)
            if before is not None:
                _check_nothing_left(before, work)


def answers(environment: Mapping[str, str]) -> bool:
    """Whether an engine does; its version is printed."""
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        version = run(command, timeout_s=_ANSWER_TIMEOUT_S, env=environment).strip()
    except StepError:
        return False
    print(f"    engine {version}", flush=True)
    return True


def _install(packages: tuple[str, ...]) -> None:
    state = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}"]
    missing = [
        name
        for name in packages
        if not subprocess.run([*state, name], capture_output=True, text=True, check=False).stdout.startswith(
            "ii"
        )
    ]
    if not missing:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    patience = ["-o", "DPkg::Lock::Timeout=120"]
    run(["apt-get", "-qq", *patience, "update"], timeout_s=INSTALL_TIMEOUT_S, env=environment)
    command = ["apt-get", "-qq", *patience, "install", "-y", "--no-install-recommends", *missing]
    run(command, timeout_s=INSTALL_TIMEOUT_S, env=environment)


def _install_compose(work: Path, environment: Mapping[str, str]) -> None:
    """As a plugin in the work folder, from apt lists of its own: the machine's stay as they are."""
    apt = work / "apt"
    plugins = work / "config" / "cli-plugins"
    for folder in (apt / "lists" / "partial", apt / "cache" / "archives" / "partial", plugins):
        folder.mkdir(parents=True)
    sources = apt / "next.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_mirror()} {NEXT_RELEASE} main\n")
    options = [
        *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null"),
        *("-o", f"Dir::State::lists={apt / 'lists'}", "-o", f"Dir::Cache={apt / 'cache'}"),
        *("-o", "APT::Sandbox::User=root"),
    ]
    run(["apt-get", "-qq", *options, "update"], timeout_s=INSTALL_TIMEOUT_S)
    run(["apt-get", "-qq", *options, "download", "docker-compose"], timeout_s=INSTALL_TIMEOUT_S, cwd=apt)
    (package,) = apt.glob("docker-compose_*.deb")
    run(["dpkg", "-x", str(package), str(apt / "unpacked")], timeout_s=60)
    shutil.copy2(apt / "unpacked/usr/libexec/docker/cli-plugins/docker-compose", plugins)
    run(["docker", "compose", "version"], timeout_s=_ANSWER_TIMEOUT_S, env=environment)


def _mirror() -> str:
    """Where apt finds this release's packages."""
    form = ["--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {RELEASE}"]
    found = run(["apt-get", "indextargets", *form], timeout_s=60).split()
    if not found:
        raise StepError(f"apt has no source for Debian {RELEASE}; expected a machine that runs it")
    return found[0]


def _start(work: Path) -> subprocess.Popen[bytes]:
    """With flags that leave no bridge, firewall rule or forwarding behind; out of Ctrl-C's reach."""
    command = [
        *("dockerd", "--host", f"unix://{work}/docker.sock", "--pidfile", str(work / "docker.pid")),
        *("--data-root", str(work / "data"), "--exec-root", str(work / "exec")),
        *("--config-file", str(work / "daemon.json"), "--storage-driver", "overlay2", "--bridge=none"),
        *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
    ]
    if RT_GROUP.exists():
        command.append(f"--cpu-rt-runtime={REAL_TIME_ENGINE_US}")
    (work / "daemon.json").write_text("{}\n")
    with (work / "dockerd.log").open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _await_answer(daemon: subprocess.Popen[bytes], work: Path, environment: Mapping[str, str]) -> None:
    give_up_at_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at_s:
        if daemon.poll() is not None:
            break
        if answers(environment):
            return
        time.sleep(_POLL_S)
    lines = (work / "dockerd.log").read_text(errors="replace").splitlines()[-_LOG_LINES:]
    state = "does not answer" if daemon.poll() is None else f"ended with exit code {daemon.returncode}"
    raise EngineCannotStartError("\n".join([f"dockerd {state}; its last words:", *lines]))


def _make_base_image(environment: Mapping[str, str]) -> None:
    """Debian with Python, as the official image has it; and this machine's certificates, for its mirrors."""
    certificates = [f"--customize-hook=copy-in {CA_BUNDLE} {CA_BUNDLE.parent}"] if CA_BUNDLE.exists() else []
    make = [
        *("mmdebstrap", "--quiet", "--variant=minbase"),
        "--include=python3,python3-venv,python3-pip,python-is-python3,ca-certificates,iproute2",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
        *certificates,
        '--customize-hook=rm -f "$1"/usr/lib/python3.*/EXTERNALLY-MANAGED',
        *(RELEASE, "-", _mirror()),
    ]
    load = ["docker", "import", "--change", f"ENV PIP_CERT={CA_BUNDLE}", "--change", 'CMD ["python3"]']
    with tempfile.TemporaryFile(dir=environment["TMPDIR"]) as log:
        settings: dict[str, Any] = {"stderr": log, "env": dict(environment)}
        maker = subprocess.Popen(
            make, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, **settings
        )
        loader = subprocess.Popen(
            [*load, "-", BASE_IMAGE], stdin=maker.stdout, stdout=subprocess.DEVNULL, **settings
        )
        assert maker.stdout is not None, "a pipe"
        maker.stdout.close()  # the loader's alone, so that the maker ends when the loader does
        try:
            codes = (loader.wait(timeout=BASE_IMAGE_TIMEOUT_S), maker.wait(timeout=STOP_TIMEOUT_S))
        except subprocess.TimeoutExpired as error:
            raise StepError(f"the base image took over {error.timeout:.0f} s") from error
        finally:
            # SIGTERM does not reach its children; its folder is in ours, its mounts in its own namespace.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(maker.pid, signal.SIGKILL)
            maker.wait()
            end(loader, timeout_s=STOP_TIMEOUT_S)
        if codes != (0, 0):
            log.seek(0)
            raise StepError(f"the base image failed {codes}:\n{log.read().decode(errors='replace')[-3000:]}")


def end(process: subprocess.Popen[bytes], *, timeout_s: float) -> None:
    """SIGTERM, then SIGKILL to the process (and to its session, if it leads one)."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        if os.getsid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


def _check_nothing_left(before: HostState, work: Path) -> None:
    remove_control_groups(HostState.now().control_groups - before.control_groups)
    found = HostState.now().differences(before)
    if left := processes_with(str(work)):
        found.append(f"processes: {left}")
    if found:
        raise StepError("the engine left behind " + "; ".join(found))


def _unmount_below(folder: Path) -> None:
    """What a killed engine leaves mounted, innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True):
        run(["umount", "--lazy", point], timeout_s=30)


def not_tested(error: EngineCannotStartError) -> None:
    """Loudly."""
    bar = "#" * 100
    print(f"\n{bar}\n{bar}\n##  COMPOSE NOT TESTED: a container engine cannot start on this machine.")
    print("##  docker-compose.yml, the images and the side-cars were NOT TESTED by this run.")
    for line in str(error).splitlines():
        print(f"##  {line}")
    print(f"{bar}\n{bar}\n", flush=True)


def run_command(command: list[str], environment: dict[str, str]) -> int:
    """Its exit code; whatever ends us ends the command first, out of Ctrl-C's reach."""
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return child.wait()
    finally:
        end(child, timeout_s=COMMAND_STOP_TIMEOUT_S)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the work folder of an engine of our own")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    for signal_number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, _end)
    try:
        if answers(os.environ):
            return run_command(arguments.command, dict(os.environ))
        if os.environ.get("COMPOSE_BOOTSTRAP") != "1":
            raise StepError(
                "no container engine answers; COMPOSE_BOOTSTRAP=1 (as root) installs one from Debian's "
                "packages, starts it for the test and stops it"
            )
        with own_engine(keep=arguments.keep) as environment:
            return run_command(arguments.command, environment)
    except EngineCannotStartError as error:
        not_tested(error)
        return 0
    except StepError as error:
        print(f"compose-test: {error}", file=sys.stderr)
        return 1


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
