"""python -m grokscope: the program itself."""

import os
import signal
import subprocess
import sys

from ._program import program

command = [program(), *sys.argv[1:]]
if os.name == "posix":
    os.execv(command[0], command)  # signals and exit code are the program's own
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.exit(subprocess.Popen(command).wait())
