"""The quick ones of the field cases (tests/cases/run.py): policies, roles and S3 as people use
them, without guests."""
import importlib.util
import pathlib

import pytest

from harness import ROOT

SPEC = importlib.util.spec_from_file_location("cases", ROOT / "tests/cases/run.py")
cases = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cases)
THERE = [name for name in cases.QUICK if name in cases.known(cases.DIRECTORY)]


@pytest.mark.skipif(not THERE, reason=f"no cases in {cases.DIRECTORY}")
@pytest.mark.parametrize("identifier", THERE or cases.QUICK)
def test_a_quick_field_case_passes(server, tmp_path: pathlib.Path, identifier):
    passed, line = cases.run(identifier, cases.DIRECTORY, server, tmp_path)
    assert passed, f"{line}\n{(tmp_path / identifier / 'output').read_text(errors='replace')[-2000:]}"
