"""Text tables in every encoding and dialect: read alike for training and prediction, or refused in one line."""

from pathlib import Path

import pytest

from distributed_cls.config import DataConfig
from distributed_cls.dataset import sources
from distributed_cls.errors import UserError
from distributed_cls.inference import slices

ROWS = "path,label\n1.png,cat\n2.png,dög\n"
USUAL = [("1.png", "cat"), ("2.png", "dög")]
CLASSES = ["cat", "dög"]
SPREADSHEET = ROWS.replace(",", ";")
READ: dict[str, tuple[str | bytes, list[tuple[str, str]]]] = {
    "two marks": ("\ufeff\ufeff" + ROWS, USUAL),
    "UTF-16 little-endian without a mark": (ROWS.encode("utf-16-le"), USUAL),
    "UTF-16 big-endian without a mark": (ROWS.encode("utf-16-be"), USUAL),
    "UTF-32": (ROWS.encode("utf-32"), USUAL),
    "a mark before sep=": ("\ufeffsep=;\n" + SPREADSHEET, USUAL),
    "sep= in quotes": ('"sep=;"\r\n' + SPREADSHEET, USUAL),
    "SEP= and a tab": ("SEP=\t\n" + ROWS.replace(",", "\t"), USUAL),
    "sep= of an old Mac": (("sep=;\n" + SPREADSHEET).replace("\n", "\r"), USUAL),
    "lines of an old Mac": (ROWS.replace("\n", "\r"), USUAL),
    "lines of an old Mac with numbers": ("path;label;x\r1.png;cat;7\r2.png;dög;8\r", USUAL),
    "lines of three bytes": (ROWS.replace("\n", "\r\r\n"), USUAL),
    "mixed ends of lines": ("path,label\r\n1.png,cat\n2.png,dög\r\n", USUAL),
    "empty lines": ("\n\npath,label,x\n\n1.png,cat,7\n\n2.png,dög,8\n\n\n", USUAL),
    "no end of the last line": (ROWS.rstrip("\n"), USUAL),
    "a comma at each end": ("path,label,\n1.png,cat,\n2.png,dög,\n", USUAL),
    "numbered rows without a name": (",path,label\n0,1.png,cat\n1,2.png,dög\n", USUAL),
    "a delimiter in a name": ('path,label,"w,h"\n1.png,cat,8\n2.png,dög,9\n', USUAL),
    "quotes in a name": ('path,label,"a ""b"""\n1.png,cat,007\n2.png,dög,8\n', USUAL),
    "a line break in a name": ('path,label,"w\nh"\n1.png,cat,8\n2.png,dög,9\n', USUAL),
    "a line break in a value": ('path,label,note\n1.png,cat,"a\r\nb"\n2.png,dög,c\n', USUAL),
    "other columns of one name": ("path,label,x,x\n1.png,cat,1,2\n2.png,dög,1,2\n", USUAL),
    "a field of 10 MB": (f"path,label,x\n1.png,cat,{'y' * 10_000_000}\n2.png,dög,z\n", USUAL),
    "a hard blank in a name": ("path,label\u00a0\n1.png,cat\n2.png,dög\n", USUAL),
    "decimal commas": ("path;label;x\n1.png;cat;1,5\n2.png;dög;2,5\n", USUAL),
    "blanks around labels": ("path,label\n1.png,cat \n2.png,\tdög\n", USUAL),
    "accents apart": ("path,label\n1.png,cat\n2.png,do\u0308g\n", USUAL),
    "quotes in a path": ('path,label\n"a ""b"".png",cat\n2.png,dög\n', [("2.png", "dög"), ('a "b".png', "cat")]),
    "one quote in a path": ('path,label\n1".png,cat\n2.png,dög\n', [('1".png', "cat"), ("2.png", "dög")]),
    "a line break in a path": ('path,label\n"1\n.png",cat\n2.png,dög\n', [("1\n.png", "cat"), ("2.png", "dög")]),
    "a NUL in a path": ("path,label\n1\0.png,cat\n2.png,dög\n", [("1\0.png", "cat"), ("2.png", "dög")]),
    "paths of find": ("path,label\n./1.png,cat\n./2.png,dög\n", USUAL),
    "paths of Windows": ("path,label\na\\1.png,cat\nb\\2.png,dög\n", [("a/1.png", "cat"), ("b/2.png", "dög")]),
    "file URLs": ("path,label\nfile:///a%20b/1.png,cat\nfile:/2.png,dög\n", [("/2.png", "dög"), ("/a b/1.png", "cat")]),
    "paths too long for a file": (
        f"path,label\n{'x' * 5000}.png,cat\n{'y' * 300}\\%20.png,dög\n",
        [("x" * 5000 + ".png", "cat"), ("y" * 300 + "/%20.png", "dög")],
    ),
}


def written(tmp_path: Path, content: str | bytes, name: str = "t.csv") -> str:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(tmp_path / name)


@pytest.mark.parametrize(("content", "expected"), READ.values(), ids=READ)
def test_a_table_is_read_alike_for_training_and_prediction(
    tmp_path: Path, content: str | bytes, expected: list[tuple[str, str]]
) -> None:
    file = written(tmp_path, content)
    table = sources.list_images(DataConfig(source="table", path=file), "").table
    assert list(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True)) == expected
    found = [
        (item.path.removeprefix(f"{tmp_path}/"), item.truth) for item in slices.items(slices.find_slices(file), CLASSES)
    ]
    assert sorted(found) == expected


REFUSED: dict[str, tuple[str | bytes, str, str]] = {
    "Windows-1252 in a label": (ROWS.encode("cp1252"), "(line 3 is not UTF-8)", "line 3 is not UTF-8."),
    "an odd byte of UTF-16": (ROWS.encode("utf-16-le")[:-1], "is not UTF-16-LE)", "is not UTF-16-LE."),
    "a workbook": (b"PK\x03\x04" + bytes(99), "an Excel workbook or a zip file)", "an Excel workbook or a zip file."),
    "compressed": (b"\x1f\x8b\x08" + bytes(99), "(it is a gzip file)", "it is a gzip file."),
    "Parquet": (b"PAR1" + bytes(99) + b"PAR1", "(it is a Parquet file)", "it is a Parquet file."),
    "zeros at the end": (ROWS + "\0" * 4, r"got 1: \x00\x00\x00\x00)", r"got 1: \x00\x00\x00\x00."),
    "a header alone": ("path,label", "Empty CSV file", "Empty CSV file"),
    "a column twice but for a blank": ("path,label, label\n1,a,b\n", "the column label once", "the column label once"),
    "too few values": ("path,label,x\n1.png,cat\n", "Expected 3 columns, got 2", "Expected 3 columns, got 2"),
    "too many values": ("path,label\n1.png,cat,\n", "Expected 2 columns, got 3", "Expected 2 columns, got 3"),
    "a quote that is not closed": ('path,label\n"1.png,cat\n', "Expected 2 columns, got 1", "got 1"),
    "a comment": ("# mine\npath,label\n1.png,cat\n", "Expected 1 columns, got 2", "Expected 1 columns, got 2"),
    "single quotes": ("'path','label'\n'1.png','cat'\n", "columns ''path'', ''label''", "1 rows of 'path', 'label'"),
    "a web page": ("<html>404</html>\n", "the columns '<html>404</html>'", "0 rows of <html>404</html>"),
    "capital letters": ("Path,Label\n1.png,cat\n", "the columns 'Path', 'Label'", "1 rows of Path, Label"),
    "a path of Windows": ("path,label\nC:\\1.png,cat\n", "C:\\1.png in row 0 of", "C:\\1.png in row 0 of"),
}


@pytest.mark.parametrize(("content", "training", "prediction"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_table_is_named_in_one_line(
    tmp_path: Path, content: str | bytes, training: str, prediction: str
) -> None:
    file = written(tmp_path, content)
    with pytest.raises(UserError) as caught:
        sources.list_images(DataConfig(source="table", path=file), "")
    assert training in str(caught.value) and str(caught.value).isprintable()
    with pytest.raises(UserError) as caught:
        slices.find_slices(file)
    assert prediction in str(caught.value) and str(caught.value).isprintable()


def test_a_hidden_character_in_a_name_is_shown(tmp_path: Path) -> None:
    file = written(tmp_path, "path,\u200blabel\n1.png,cat\n")
    with pytest.raises(UserError, match=r"Expected the column label\. .* with the columns 'path', '\\u200blabel'"):
        sources.list_images(DataConfig(source="table", path=file), "")


@pytest.mark.parametrize("first", ["1.png", "s3://other/1.png"])
def test_paths_of_two_places_are_refused_whichever_comes_first(tmp_path: Path, first: str) -> None:
    file = written(tmp_path, f"path,label\n{first},cat\ns3://bucket/2.png,dog\n")
    with pytest.raises(UserError, match=r"Expected all paths of the table to lie in s3://.*Use one table per bucket"):
        sources.list_images(DataConfig(source="table", path=file), "")


@pytest.mark.parametrize(
    ("split", "number"), [("TRAIN", 0), (" dev ", 1), ("Validation\t", 1), ("testing", 2), ('"test"', 2), ("", -1)]
)
def test_a_split_as_people_write_it(tmp_path: Path, split: str, number: int) -> None:
    file = written(tmp_path, f"path,label,split\n1.png,cat,{split}\n2.png,dog,{split}\n")
    assert set(sources.list_images(DataConfig(source="table", path=file), "").table["split"].to_pylist()) == {number}
