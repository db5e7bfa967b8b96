"""Runs many commands of this repository for the price of one import of TensorFlow.

Standard input is a Unix socket. Each message is JSON: [words of a command without its `python`,
variables of its environment
beside ours], with three files: for its status, standard output and standard error. The command runs
as the main program in a fork of this process, which has imported TensorFlow and used nothing of it.
Its status gets two lines: the number of its process, and in the end its exit code; a command that a
signal ended has minus its number for a code.
"""

import array
import gc
import json
import os
import runpy
import signal
import socket
import sys

sys.path.insert(0, os.getcwd())

from training import runtime, start  # noqa: E402, F401 (what all commands import)

LONGEST = 1 << 16  # bytes of a message


def be(words, variables=()):
    """Be the command, with these variables of its environment beside ours."""
    os.environ.update(variables)
    if words[0] == '-m':
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name='__main__')


def receive(channel):
    """A message and its files, or '' and none at the end."""
    files = array.array('i')
    text, ancillary, _, _ = channel.recvmsg(LONGEST, socket.CMSG_SPACE(3 * files.itemsize))
    for _, _, numbers in ancillary:
        files.frombytes(numbers)
    return text.decode('utf-8'), list(files)


def attend(message, status, *outputs):
    """Runs a command in a fork and says to `status` who it is and, when it has ended, how; or, in
    the fork, is the command.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if not process:
        for number, file in enumerate((os.open(os.devnull, os.O_RDONLY),) + outputs):
            os.dup2(file, number)
            os.close(file)
        os.close(status)
        signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # also where we run in the background
        return be(*json.loads(message))
    for file in outputs:
        os.close(file)
    os.write(status, b'%d\n' % process)
    how = os.waitpid(process, 0)[1]
    os.write(status, b'%d\n' % (os.WEXITSTATUS(how) if os.WIFEXITED(how) else -os.WTERMSIG(how)))
    os._exit(0)


def main():
    gc.freeze()  # a fork that ends need not look through what it has only inherited
    signal.signal(
        signal.SIGCHLD, signal.SIG_IGN
    )  # nobody asks how those that attend to a command ended
    channel = socket.socket(fileno=os.dup(0))
    while True:
        message, files = receive(channel)
        if not message:
            return None
        if not os.fork():
            channel.close()
            return attend(message, *files)
        for file in files:
            os.close(file)


if __name__ == '__main__':
    main()
