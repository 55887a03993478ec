"""A Slurm of one node for tests, without systemd: its own key, configuration, state and logs in one folder.

What a test cluster needs and nothing else: no accounting, no cgroups, no task binding, and GPUs that are character
devices which every machine has, so that Slurm hands them out.
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
SBIN = "/usr/sbin:/usr/local/sbin"  # not on everybody's PATH
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny  # else they listen to the world
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5  # a requeued job waits for one second longer than this
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
SlurmdParameters=config_overrides  # the node has the CPUs that it is said to have
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
    """Why there can be no cluster here; "" when there can."""
    absent = [name for name in (*DAEMONS, "sbatch") if shutil.which(name, path=_path()) is None]
    return f"no {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge" if absent else ""


@dataclass
class SingleNode:
    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """An environment in which Slurm's commands, and what they start, mean this cluster."""
        own = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _path()}
        loopback = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
        return inherited | own | loopback

    def start(self) -> None:
        """Until the node is idle. Raises RuntimeError with the ends of the logs when it does not come to that."""
        self._configure()
        at = self.folder
        self._run(
            "munged", "--foreground", f"--key-file={at}/munge.key", f"--socket={at}/munge.sock", "--force",
            f"--pid-file={at}/munged.pid", f"--log-file={at}/munged.log", f"--seed-file={at}/munge.seed",
        )  # fmt: skip
        self.until(lambda: (at / "munge.sock").exists())
        self._run("slurmctld", "-D")
        self._run("slurmd", "-D")
        self.until(lambda: self.ask("sinfo", "-h", "-o", "%T") == "idle")

    def stop(self) -> None:
        """Jobs first, then the daemons in the order in which they need each other."""
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
                except subprocess.TimeoutExpired:  # a slurmd that never registered does not heed it
                    process.kill()
                    process.wait()

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints; "" when it fails, or within 10 s does not answer."""
        try:
            done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=10)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

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
        self.folder.chmod(0o755)  # munged insists
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
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return int(there.getsockname()[1])


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{SBIN}"
