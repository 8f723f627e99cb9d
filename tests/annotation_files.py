"""Files of labels in the forms of many tools, for the tests of their readers."""

from birdemb.annotations.recognition import read_annotations

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"
BIRDNET = "Start (s),End (s),Scientific name,Common name,Confidence,File"
KALEIDOSCOPE = (
    "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,Fmin,Fmean,Fmax,DATE,TIME,HOUR,TOP1MATCH*,TOP1DIST,MANUAL ID"
)

# A file in the form of each tool, the form it is recognised as, and its first annotation.
SAMPLES = {
    "train.csv": (
        "primary_label,secondary_labels,type,filename,collection,rating\n"
        "acafly,\"['amegfi']\",['song'],acafly/XC31063.ogg,XC,2.5\n",
        "BirdCLEF table of focal recordings",
        ("acafly/XC31063.ogg", None, None, "acafly", "present"),
    ),
    "train_soundscape_labels.csv": (
        "row_id,site,audio_id,seconds,birds\n7019_COR_5,COR,7019,5,rucwar amecro\n7019_COR_10,COR,7019,10,nocall\n",
        "BirdCLEF table of soundscapes",
        ("7019_COR", 0, 5, "rucwar", "present"),
    ),
    "train_soundscapes_labels.csv": (
        "filename,start,end,primary_label\nBC2026_Train_0039_S22_20211231_201500.ogg,00:01:00,00:01:05,22961;23158\n",
        "BirdCLEF table of soundscapes",
        ("BC2026_Train_0039_S22_20211231_201500.ogg", 60, 65, "22961", "present"),
    ),
    "dawn.Table.1.selections.txt": (
        f"{RAVEN}\tSpecies\n1\tWaveform 1\t1\t1.5\t2.25\t0\t11025\tWren\n"
        "1\tSpectrogram 1\t1\t1.5\t2.25\t0\t11025\tWren\n",
        "Raven selection table",
        ("dawn", 1.5, 2.25, "Wren", "present"),
    ),
    "dawn.BirdNET.selection.table.txt": (
        f"{RAVEN}\tCommon Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)\n"
        "1\tSpectrogram 1\t1\t63.0\t66.0\t0\t15000\tEurasian Blackbird\teurbla\t0.8123\t/data/rec2.wav\t3.0\n",
        "Raven selection table",
        ("/data/rec2.wav", 3, 6, "eurbla", "present"),
    ),
    "dawn.txt": (
        "2.150000\t2.150000\tWren\n\\\t6928.456055\t6928.456055\n3.400000\t6.100000\tRobin\n",
        "Audacity label track",
        ("dawn", 2.15, 2.15, "Wren", "present"),
    ),
    "dawn.BirdNET.results.txt": (
        "0.0\t3.0\tTurdus merula, Eurasian Blackbird\t0.8123\n",
        "Audacity label track of BirdNET",
        ("dawn", 0, 3, "Turdus merula", "present"),
    ),
    "dawn_scores.txt": (
        "0.000000\t3.000000\tBCCH;0.910\n",
        "Audacity label track of HawkEars",
        ("dawn", 0, 3, "BCCH", "present"),
    ),
    "cluster.csv": (
        f"{KALEIDOSCOPE}\nD:\\rec,site1\\night,S1_20240501.wav,0,12.5,1.5,1,2,3,2024-05-01,05:00:00,5,Cluster_3,0.4,Wren\n",
        "Kaleidoscope table",
        ("site1/night/S1_20240501.wav", 12.5, 14, "Wren", "present"),
    ),
    "id.csv": (
        "INDIR,OUTDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,AUTO ID*,PULSES,MANUAL ID\n"
        "D:\\in,D:\\out,,b.wav,0,0.0,4.2,MYSE,12,\n",
        "Kaleidoscope table",
        ("b.wav", 0, 4.2, "MYSE", "present"),
    ),
    "dawn.BirdNET.results.kaleidoscope.csv": (
        "INDIR,FOLDER,IN FILE,OFFSET,DURATION,scientific_name,common_name,confidence,lat,lon,week,overlap,sensitivity\n"
        "/data,site1,rec1.wav,3.0,3.0,Turdus merula,Eurasian Blackbird,0.8123,-1,-1,-1,0,1\n",
        "Kaleidoscope table",
        ("site1/rec1.wav", 3, 6, "Turdus merula", "present"),
    ),
    "dawn.BirdNET.results.csv": (
        f"{BIRDNET}\n3.0,6.0,Turdus merula,Eurasian Blackbird,0.8123,/data/rec1.wav\n",
        "BirdNET results",
        ("/data/rec1.wav", 3, 6, "Turdus merula", "present"),
    ),
    "dawn.csv": (
        "Start (s);End (s);Scientific name;Common name;Confidence\n3.0;6.0;Turdus merula;Eurasian Blackbird;0.8123\n",
        "BirdNET results",
        ("dawn", 3, 6, "Turdus merula", "present"),
    ),
    "dawn.BirdNET.results.r.csv": (
        "filepath,start,end,scientific_name,common_name,confidence,lat,lon,week\n"
        "/data/rec1.wav,3.0,6.0,Turdus merula,Eurasian Blackbird,0.8123,-1,-1,-1\n",
        "plain table",
        ("/data/rec1.wav", 3, 6, "Turdus merula", "present"),
    ),
    "crowsetta.csv": (
        "label,onset_s,offset_s,notated_path,annot_path,sequence,annotation\nwren,0.5,0.75,a/bird.wav,a/bird.txt,0,0\n",
        "plain table",
        ("a/bird.wav", 0.5, 0.75, "wren", "present"),
    ),
    "opensoundscape.csv": (
        "file,start_time,end_time,wren,robin\na/bird.wav,3.0,6.0,0,1\na/bird.wav,6.0,9.0,0,0\n",
        "table of 0 and 1",
        ("a/bird.wav", 3, 6, "robin", "present"),
    ),
    "metadata.csv": (
        'file_name,labels\nclips/1.wav,"[""wren"", ""robin""]"\n',
        "Hugging Face metadata",
        ("clips/1.wav", None, None, "wren", "present"),
    ),
    "metadata.jsonl": (
        '{"file_name": "clips/1.wav", "label": 1139490}\n',
        "Hugging Face metadata",
        ("clips/1.wav", None, None, "1139490", "present"),
    ),
}


def read(folder, text, name="labels.csv", encoding="utf-8", **choices):
    path = folder / name
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return read_annotations(path, **choices)


def rows(annotations):
    """What each row says, without weight and line; None for a recording's very start or end."""
    table = annotations.table[["filename", "start", "end", "class", "state"]]
    return [tuple(None if cell != cell else cell for cell in row) for row in table.itertuples(index=False)]


def said(annotations):
    """Classes and states alone."""
    return list(zip(annotations.table["class"], annotations.table["state"], strict=True))


def lines(annotations):
    return annotations.table["line"].tolist()
