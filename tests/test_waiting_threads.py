"""Threads of OpenMP that wait for each other leave their cores to others, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os
from birdemb.classify.heads import make_head
make_head("mlp"), make_head("lgbm")
print(os.environ["OMP_WAIT_POLICY"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("given", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_policy_is_set_where_nobody_has_set_it(given, found):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found]


@pytest.mark.slow
def test_policy_is_set_before_anything_can_read_it():
    program = """
import builtins, os, sys
load = builtins.__import__
def watch(name, *args, **kwargs):
    if name.split(".")[0] in ("lightgbm", "sklearn", "torch"):
        assert os.environ.get("OMP_WAIT_POLICY") == "PASSIVE", name
    return load(name, *args, **kwargs)
builtins.__import__ = watch
import birdemb.classify.mlp_training, birdemb.classify.trees, birdemb.fitting, birdemb.predicting
assert "torch" in sys.modules and "lightgbm" in sys.modules
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
