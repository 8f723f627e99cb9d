"""What is said when a run is stopped from outside: of a table that this run has written, and of no other."""

from pathlib import Path

import pytest

from birdemb.budget.interruption import stoppable
from birdemb.storage import replace_atomically


def rewrite(output, texts):
    for text in texts:
        with replace_atomically(output) as temporary:
            temporary.write_text(text)


def interrupt(output, form, texts):
    with stoppable(output, form):
        rewrite(output, texts)
        raise KeyboardInterrupt


def stop(capsys, output, form=None, write=()):
    """Be stopped after these tables were written, and give what is said of them."""
    with pytest.raises(KeyboardInterrupt):
        interrupt(Path(output), form, write)
    return capsys.readouterr().err.strip()


def test_a_submission_has_every_row(capsys):
    assert stop(capsys, "s.csv", write=["a"]) == "s.csv is what was written last, with every row."
    assert stop(capsys, "s.parquet", "submission", ["a"]).endswith("with every row.")


@pytest.mark.parametrize(("output", "form"), [("t.csv", "wide"), ("t.parquet", None), ("t.csv", "detections")])
def test_other_forms_have_what_was_predicted(capsys, output, form):
    said = stop(capsys, output, form, ["a", "b"])
    assert said == f"{output} is what was written last, with the rows of what was predicted by then."


def test_nothing_is_said_of_a_table_from_before(capsys):
    Path("s.csv").write_text("saved just now")
    assert stop(capsys, "s.csv") == ""
    assert stop(capsys, "none.csv") == ""


def test_the_same_table_written_anew_is_told_of(capsys):
    Path("s.csv").write_text("a")
    assert "with every row" in stop(capsys, "s.csv", write=["a"])
