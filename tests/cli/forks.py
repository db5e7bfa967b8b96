"""Runs many commands of this repository for the price of one import of TensorFlow.

Each line of standard input is JSON: [words of a command without its `python`, variables of its environment beside ours]. It
runs as the main program in a fork of this process, which has imported TensorFlow and used nothing of it. The answer is a
line of JSON: [exit code, standard output, standard error]; a command that a signal ended has minus its number for a code.
"""
import gc
import json
import os
import runpy
import sys
import tempfile

sys.path.insert(0, os.getcwd())

from training import runtime, start  # noqa: E402, F401 (what all commands import)


def be(words, variables=None):
    """Be the command, with these variables of its environment beside ours."""
    os.environ.update(variables or {})
    if words[0] == '-m':
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name='__main__')


def main():
    gc.freeze()  # a fork that ends need not look through what it has only inherited
    for line in iter(sys.stdin.readline, ''):
        with open(os.devnull) as nothing, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = os.fork()
            if not process:
                for number, file in enumerate((nothing, out, err)):
                    os.dup2(file.fileno(), number)
                return be(*json.loads(line))
            status = os.waitpid(process, 0)[1]
            texts = [file.seek(0) or file.read().decode('utf-8') for file in (out, err)]
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        print(json.dumps([code] + texts), flush=True)


if __name__ == '__main__':
    main()
