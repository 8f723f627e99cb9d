"""Tables of labels for the tests of labels."""

from birdemb.labels import read_labels
from birdemb.listing import EmbeddedRecording, SkippedRecording

NAMES = ("a/1.ogg", "a/2.ogg", "b/3.ogg")

# The columns of train.csv or train_metadata.csv, in their order.
COLUMNS = {
    2021: "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,date,filename,"
    "license,rating,time,url",
    2022: "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,license,rating,"
    "time,url,filename",
    2023: "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,license,rating,"
    "url,filename",
    2024: "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,license,rating,"
    "url,filename",
    2025: "primary_label,secondary_labels,type,filename,collection,rating,url,latitude,longitude,scientific_name,"
    "common_name,author,license",
    2026: "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,class_name,"
    "inat_taxon_id,author,license,rating,url,filename,collection",
}


def embedded(*names, windows=1):
    return [EmbeddedRecording(name, f"{index:064x}", windows, 5.0 * windows) for index, name in enumerate(names)]


def read(folder, text, names=NAMES, skipped=(), encoding="utf-8"):
    path = folder / "train.csv"
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return read_labels(path, embedded(*names), [SkippedRecording(name, "decode", "broken") for name in skipped])


def rows(labels):
    return [tuple(row) for row in labels.table[["recording", "class", "state"]].to_numpy()]


def problems(labels):
    return {(problem.recording, problem.stage) for problem in labels.problems}


def table(*lines, header="filename,primary_label,secondary_labels"):
    return "\n".join((header, *lines)) + "\n"


def known_of(labels, recording):
    """All that is known of a recording, by column."""
    frame = labels.recordings.set_index("recording")
    return {name: None if value != value else value for name, value in frame.loc[recording].items()}
