"""Starts a command with sockets, as a service manager passes them: activate.py KIND,KIND... COMMAND..."""

import fcntl
import os
import socket
import sys

kinds, command = sys.argv[1].split(","), sys.argv[2:]
made = []
for kind in kinds:
    if kind == "tcp":
        made.append(socket.create_server(("127.0.0.1", 0)))
    elif kind == "any":
        made.append(socket.create_server(("0.0.0.0", 0)))
    elif kind == "udp":
        made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made[-1].bind(("127.0.0.1", 0))
    elif kind == "unix":
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].bind("socket")
        made[-1].listen()
    elif kind == "connected":
        server = socket.create_server(("127.0.0.1", 0))
        made.append(socket.create_connection(server.getsockname()))
    elif kind == "file":
        made.append(open("/dev/null"))
    else:
        sys.exit(f"no kind {kind}")
# They are passed as the descriptors from 3 on, where those made first are now.
moved = [fcntl.fcntl(each, fcntl.F_DUPFD, 100) for each in made]
for at, descriptor in enumerate(moved):
    os.dup2(descriptor, 3 + at, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(made)))
os.execv(command[0], command)
