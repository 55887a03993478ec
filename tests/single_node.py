"""A single-node Slurm cluster for tests, without systemd: key, configuration, state and logs in one folder.

The minimum for tests: no accounting, cgroups or task binding, and as GPUs character devices that every machine has,
so that Slurm can allocate them.
"""

import os
import platform
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
GPUS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
SBIN = "/usr/sbin:/usr/local/sbin"  # not on every user's PATH
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny  # else they listen on all interfaces
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5  # a requeued job waits one second longer than this
CredType=cred/munge
MpiDefault=none
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=100000
SlurmdParameters=config_overrides  # trust the CPUs and memory configured below
ReturnToService=2
KillWait=5
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/slurmd
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=4096 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no cluster can be started here, or "" if it can."""
    absent = [name for name in (*DAEMONS, "sbatch") if shutil.which(name, path=_path()) is None]
    return f"no {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge" if absent else ""


@dataclass
class SingleNode:
    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """An environment in which Slurm's commands, and the processes they start, use this cluster."""
        cluster = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _path()}
        loopback = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
        return inherited | cluster | loopback

    def start(self) -> None:
        """Returns when the node is idle. Raises RuntimeError with the ends of the logs if it does not become idle."""
        self._configure()
        folder = self.folder
        self._run(
            "munged", "--foreground", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.sock", "--force",
            f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        self.until(lambda: (folder / "munge.sock").exists())
        self._run("slurmctld", "-D")
        self._run("slurmd", "-D")
        self.until(lambda: self.ask("sinfo", "-h", "-o", "%T") == "idle")

    def stop(self) -> None:
        """Cancels the jobs, then stops the daemons in the reverse order of their start."""
        try:
            if "slurmd" in self.running:
                self.clear()
        finally:
            self._end()

    def _end(self) -> None:
        for name in reversed(DAEMONS):
            if process := self.running.pop(name, None):
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:  # a slurmd that never registered ignores SIGTERM
                    process.kill()
                    process.wait()

    def ask(self, *command: str) -> str:
        """The output of a Slurm command, or "" if it fails or takes more than 10 s."""
        try:
            process = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=10)
        except subprocess.TimeoutExpired:
            return ""
        return process.stdout.strip() if process.returncode == 0 else ""

    def clear(self) -> None:
        """Cancels every job and waits until they are gone."""
        for job in self.ask("squeue", "-h", "-o", "%A").split():
            self.ask("scancel", "--signal=KILL", "--full", job)
            self.ask("scancel", job)
        self.until(lambda: not self.ask("squeue", "-h"))

    def _configure(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.folder.chmod(0o755)  # munged requires it
        for name in ("ctld", "slurmd"):
            (self.folder / name).mkdir()
        devices = [f"Name=gpu File={device} Flags=nvidia_gpu_env\n" for device in GPUS]
        (self.folder / "gres.conf").write_text("".join(devices))
        conf = CONF.format(
            host=platform.node().partition(".")[0],
            user=pwd.getpwuid(os.geteuid()).pw_name,
            folder=self.folder,
            gpus=len(GPUS),
            ctld_port=free_port(),
            slurmd_port=free_port(),
        )
        (self.folder / "slurm.conf").write_text(conf)

    def _run(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as output:
            self.running[command[0]] = subprocess.Popen(
                command, env=self.env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def until(self, done: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                tails = [f"{path.name}: {path.read_text()[-1000:]}" for path in sorted(self.folder.glob("*.out"))]
                raise RuntimeError("\n".join(["the cluster is not ready", *tails]))
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{SBIN}"
