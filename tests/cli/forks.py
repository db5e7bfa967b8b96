"""Runs many commands of this repository, but imports TensorFlow only once.

Standard input is a Unix socket. Each message is JSON: [words of a command without its `python`,
variables to add to our environment], with three files: for its status, standard output and standard
error. The command runs as the main program in a fork of this process, which has imported TensorFlow
and used nothing of it. Two lines are written to its status: the number of its process and, at the
end, its exit code. If a signal ended the command, the code is minus the number of the signal.
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

from training import runtime, start  # noqa: E402, F401 (all commands import these)

LONGEST = 1 << 16  # bytes of a message


def be(words, variables=()):
    """Becomes the command, with these variables added to our environment."""
    os.environ.update(variables)
    if words[0] == '-m':
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name='__main__')


def receive(channel):
    """Returns a message and its files; '' and no files at the end."""
    files = array.array('i')
    text, ancillary, _, _ = channel.recvmsg(LONGEST, socket.CMSG_SPACE(3 * files.itemsize))
    for _, _, numbers in ancillary:
        files.frombytes(numbers)
    return text.decode('utf-8'), list(files)


def attend(message, status, *outputs):
    """Runs a command in a fork, and reports its process number and its exit code to `status`.

    In the fork, it becomes the command and returns its exit code.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if not process:
        for number, file in enumerate((os.open(os.devnull, os.O_RDONLY),) + outputs):
            os.dup2(file, number)
            os.close(file)
        os.close(status)
        return be(*json.loads(message))
    for file in outputs:
        os.close(file)
    os.write(status, b'%d\n' % process)
    how = os.waitpid(process, 0)[1]
    os.write(status, b'%d\n' % (os.WEXITSTATUS(how) if os.WIFEXITED(how) else -os.WTERMSIG(how)))
    os._exit(0)


def reap(*_):
    """Waits for ended children, so that the time that they used counts as ours."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            return


def main():
    gc.freeze()  # so that a fork that ends does not search inherited objects
    gc.set_threshold(20_000, 20, 50)  # as in tests/conftest.py
    signal.signal(signal.SIGCHLD, reap)
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
