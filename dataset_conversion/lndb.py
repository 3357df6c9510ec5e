"""LNDb, lung nodules in CT: its scans, and the findings of its table with the class of their texture.

``trainNodules_gt.csv`` has a row a finding, joined over the radiologists who read the scan: the centers are means of
theirs, in mm in the scan's frame, and so is ``Text``, the texture from 1 (ground glass) to 5 (solid). The challenge
(Pedrosa et al., "LNDb: A Lung Nodule Database on Computed Tomography", lndb.grand-challenge.org) makes three classes of
it, whose boundaries are 7/3 and 11/3 in its script ``calcFleischner.py``; a rating on a boundary belongs to the denser
class there. What is no nodule (``Nodule`` 0) has the texture 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rl_nnunet.class_table import read_records
from rl_nnunet.errors import InputError

TABLE = "trainNodules_gt.csv"
SCAN = re.compile(r"LNDb-(?P<number>\d+)\.mhd")
COLUMNS = ("lndbid", "findingid", "x", "y", "z", "nodule", "text")
TEXTURE_CLASSES = ("ground_glass", "part_solid", "solid")
PART_SOLID_FROM, SOLID_FROM = 7 / 3, 11 / 3
ROUNDING = 0.01
"""Of ratings in a table: means of up to five whole numbers do not come closer to a boundary without lying on it."""
LOWEST_RATING, HIGHEST_RATING = 1.0, 5.0
LISTED = 5
"""Of names in a sentence."""
UNKNOWN = ("", "nan", "na", "n/a", "-")


@dataclass(frozen=True)
class Nodule:
    """One nodule: number of its scan and of the finding there, center (x, y, z) in mm, and rating of its texture."""

    scan: int
    finding: int
    center: tuple[float, float, float]
    texture: float

    @property
    def patient(self) -> str:
        """Name of the scan, of which every patient has one."""
        return scan_name(self.scan)

    @property
    def case(self) -> str:
        """nnU-Net's name of the case."""
        return f"{self.patient}_{self.finding:02d}"

    @property
    def label(self) -> str:
        """Name of the class."""
        return texture_class(self.texture)


def scan_name(number: int) -> str:
    """Return LNDb's name of a scan."""
    return f"LNDb-{number:04d}"


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many there are beyond them."""
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def texture_class(rating: float) -> str:
    """Return the class of a texture from 1 to 5."""
    denser = sum(rating >= boundary - ROUNDING for boundary in (PART_SOLID_FROM, SOLID_FROM))
    return TEXTURE_CLASSES[denser]


def find_scans(folder: Path) -> dict[int, Path]:
    """Return the CT of every number, at any depth; masks of nodules are called otherwise.

    Raises
    ------
    InputError
        If there is no folder, no CT, or there are two of one number.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; correct -i.")
    scans: dict[int, Path] = {}
    for path in sorted(folder.rglob("*.mhd")):
        match = SCAN.fullmatch(path.name)
        if match is None:
            continue
        other = scans.setdefault(int(match["number"]), path)
        if other is not path:
            raise InputError(f"{other} and {path} are two files of one scan; remove one of them.")
    if not scans:
        raise InputError(f"{folder} holds no scan of LNDb (LNDb-0001.mhd and so on); correct -i.")
    return scans


def find_table(folder: Path) -> Path:
    """Return the table in a folder, at any depth.

    Raises
    ------
    InputError
        If there is not exactly one.
    """
    tables = sorted(folder.rglob(TABLE))
    if not tables:
        raise InputError(f"{folder} holds no {TABLE}; name the table of the nodules with --table.")
    if len(tables) > 1:
        raise InputError(f"{tables[0]} and {tables[1]} are two tables of the nodules; name one with --table.")
    return tables[0]


def read_nodules(path: Path) -> tuple[list[Nodule], list[str]]:
    """Return the nodules of a table that have a texture, and notices on the findings that are left out.

    Raises
    ------
    InputError
        If the table cannot be used, or names a finding twice.
    """
    nodules: dict[str, Nodule] = {}
    notices, others, seen = [], 0, set()
    for number, record in enumerate(read_records(path, COLUMNS), start=2):
        nodule, is_nodule = _read_row(record, f"{path}: row {number}")
        if nodule.case in seen:
            raise InputError(
                f"{path} has two rows of the finding {nodule.finding} in {nodule.patient}; remove one, or give the "
                f"table that is joined over the radiologists ({TABLE})."
            )
        seen.add(nodule.case)
        if not is_nodule:
            others += 1
        elif nodule.texture < LOWEST_RATING:
            notices.append(f"{nodule.case} is left out: {path.name} states no texture of it.")
        else:
            nodules[nodule.case] = nodule
    if not nodules:
        raise InputError(f"{path} has no nodule with a texture; give the table {TABLE} of LNDb.")
    if others:
        notices.insert(0, f"{others} finding{'s' * (others != 1)} of {path.name} left out, being no nodule (Nodule 0).")
    return list(nodules.values()), notices


def match_scans(nodules: Sequence[Nodule], scans: Mapping[int, Path], table: Path) -> list[str]:
    """Return a notice if there are scans without a nodule.

    Raises
    ------
    InputError
        If there is a nodule without its scan.
    """
    lacking = [scan_name(number) for number in sorted({nodule.scan for nodule in nodules} - scans.keys())]
    if lacking:
        raise InputError(
            f"{table} has nodules of {listed(lacking)}, of which there is no scan below -i; fetch what is missing, or "
            "remove the rows."
        )
    without = [scan_name(number) for number in sorted(scans.keys() - {nodule.scan for nodule in nodules})]
    return [f"left out, as {table.name} states no nodule with a texture there: {listed(without)}."] if without else []


def _read_row(record: Mapping[str, str], where: str) -> tuple[Nodule, bool]:
    """Return the finding of a row, with the texture 0 if there is none, and whether it is a nodule."""
    scan, finding = (_whole_number(record[column], column, where) for column in ("lndbid", "findingid"))
    x, y, z = (_number(record[column], column, where) for column in "xyz")
    is_nodule = _number(record["nodule"], "nodule", where)
    if is_nodule not in (0, 1):
        raise InputError(f"{where} states {record['nodule']!r} as nodule; write 1 for a nodule and 0 for none.")
    texture = 0.0 if record["text"].lower() in UNKNOWN else _number(record["text"], "text", where)
    if not 0 <= texture <= HIGHEST_RATING:
        raise InputError(f"{where} states {record['text']} as text, the texture, which goes from 1 to 5; correct it.")
    return Nodule(scan, finding, (x, y, z), texture), bool(is_nodule)


def _number(text: str, column: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where} states {text!r} as {column}, which is no number; correct it.")
    return value


def _whole_number(text: str, column: str, where: str) -> int:
    value = _number(text, column, where)
    if value != int(value) or value < 0:
        raise InputError(f"{where} states {text!r} as {column}, which is no whole number; correct it.")
    return int(value)
